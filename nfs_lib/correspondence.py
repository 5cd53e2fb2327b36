"""How good is the match of ray samples and vertices? (paper section 4.3, Eq. 6 and 7, in numbers)

Each number is one way in which Eq. 6 goes wrong: samples far from any vertex, vertices that nobody follows, whole columns
behind the lips that move with them, jumps between neighbours, places where the deformation turns the picture inside out, and
matches that belong to another camera. Since the face model's skin moves as it is told, the deformation can also be held
against the true motion of each point of it.

Points are in the head frame. The report is in millimetres, the arrays are in head units.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from nfs_lib.alignment import Match, face_vertices, match
from nfs_lib.camera import Camera, project
from nfs_lib.deformation import displacement, grid_determinant
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.true_motion import RULES, Truth, against_truth, match_by, seen_frontally

__all__ = ["RULES", "Anatomy", "Correspondence", "CorrespondenceReport", "Examination", "Motion", "Truth", "against_truth",
           "anatomy", "correspond", "correspondence_report", "examine", "match_by", "move", "seen_frontally"]  # fmt: skip
REACH_MM = 10.0   # a sample further than this from every vertex on XY isn't over the face: background, hair
SKIN_MM = 14.0    # a sample is "at the skin" this close to a vertex of it in space: one or two samples of a ray
BEHIND_MM = 20.0  # a sample this far behind its vertex has nothing to do with that piece of skin
MOVING_MM = 0.5   # the truth is asked where the skin moves, or is moved by the rule, at least this far


@runtime_checkable
class Head(Protocol):
    """What is needed of a talking head (`pipeline.TalkingHead` has it)."""

    model: MorphableModel
    face: Coefficients
    planar: bool
    inversion: Any

    def samples(self, camera: Camera) -> Tensor: ...


@dataclass(frozen=True)
class CorrespondenceReport:
    """The numbers of one face, expression, camera and rule. Shares are 0 to 1, lengths millimetres.

    match_*: distance on XY between a sample over the face and its vertex. per_vertex_*: samples at the skin that follow a
    vertex in view; unmatched_share: vertices in view with none. behind_share: of the samples within the head, those more than
    BEHIND_MM behind their vertex. jump_*: difference of the ways of neighbouring rays' samples at the skin. fold_share:
    samples at the skin where the XY determinant is negative. stale_*: samples at the skin whose vertex isn't the nearest on
    XY, and how far those two lie apart. true_mean_mm: mean true motion of the visible skin that moves or is moved; error_*: the
    rule's motion against it; error_share: mean error / mean true motion.
    """

    rule: str
    stride: int
    samples: int
    samples_over_face: int
    samples_at_skin: int
    vertices: int
    match_median_mm: float
    match_p95_mm: float
    match_max_mm: float
    per_vertex_median: float
    per_vertex_max: int
    unmatched_share: float
    behind_share: float
    jump_p95_mm: float
    jump_max_mm: float
    fold_share: float
    stale_share: float
    stale_mean_mm: float
    true_mean_mm: float
    error_mean_mm: float
    error_p95_mm: float
    error_max_mm: float
    error_share: float

    def as_dict(self) -> dict[str, Any]:
        """Name → number, in the order above."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Correspondence:
    """Who follows whom: all that depends on the camera, the rule and the vertices, but not on how they move.

    points (P, 3): n_samples along each ray of a square grid, sample fastest; vertices (V, 3) as matched. Per sample: over the
    face; at its skin; inside, between the face and the back of the head; gap, how far behind its vertex along z; stale, for
    samples at the skin, from its vertex to the nearest on XY. in_view (V,): vertices within the picture. Lengths in head units.
    """

    points: Float[Tensor, "P 3"]
    vertices: Float[Tensor, "V 3"]
    matched: Match
    n_samples: int
    over: Bool[Tensor, "P"]
    skin: Bool[Tensor, "P"]
    inside: Bool[Tensor, "P"]
    gap: Float[Tensor, "P"]
    stale: Float[Tensor, "P"]
    in_view: Bool[Tensor, "V"]

    @property
    def per_vertex(self) -> Int[Tensor, "V"]:
        """How many samples at the skin follow each vertex (the nearest one, where a sample has several)."""
        return torch.bincount(self.matched.index[self.skin, 0], minlength=len(self.vertices))

    def followers(self, vertices: Int[Tensor, "n"]) -> Int[Tensor, "m"]:
        """The numbers of all samples over the face that follow one of these vertices, at whatever depth."""
        return torch.nonzero(torch.isin(self.matched.index[:, 0], vertices) & self.over)[:, 0]


@dataclass(frozen=True)
class Motion:
    """What Eq. 7 makes of it. way (P, 3) of each sample; jump (P,): the largest difference of way to the next ray right or
    below, head units; determinant (P,): of the XY Jacobian, negative where the picture folds over."""

    way: Float[Tensor, "P 3"]
    jump: Float[Tensor, "P"]
    determinant: Float[Tensor, "P"]


@dataclass(frozen=True)
class Examination:
    """A head, looked at with one expression, camera and rule: the report, and the arrays behind it for pictures.

    v_init, v_t: all vertices of the face model; chosen (V,): those that take part in matching; camera: of one picture.
    """

    camera: Camera
    report: CorrespondenceReport
    pairs: Correspondence
    motion: Motion
    truth: Truth
    v_init: Float[Tensor, "N 3"]
    v_t: Float[Tensor, "N 3"]
    chosen: Int[Tensor, "V"]
    unit_mm: float


def correspond(points: Float[Tensor, "P 3"], vertices: Float[Tensor, "V 3"], n_samples: int, camera: Camera,
               rule: str = "paper", *, unit_mm: float = 1.0, front: Float[Tensor, "_ 3"] | None = None,
               back: Float[Tensor, "_ 3"] | None = None) -> Correspondence:
    """Match the samples of a square grid of rays, and say where each lies with respect to the face.

    vertices: those that take part; front: the whole front of the face at rest (default: the same vertices), so that "at the
    skin" means the same for every stride and rule; back: vertices of the back of the head (default: it never ends).
    """
    matched = match_by(points, vertices, camera, rule)
    nearest = matched if front is None and rule == "paper" else match(points, vertices if front is None else front)
    front = vertices if front is None else front
    behind_face = front[nearest.index[:, 0], 2] - points[:, 2]
    over, within = nearest.distance * unit_mm < REACH_MM, behind_face >= 0
    to_skin, _ = cKDTree(front.numpy()).query(points.numpy(), distance_upper_bound=SKIN_MM / unit_mm, workers=-1)
    inside, skin = over & within, over & torch.from_numpy(to_skin).isfinite()
    if back is not None:
        inside[inside.clone()] = points[inside, 2] >= back[match(points[inside], back).index[:, 0], 2]
    own, stale = vertices[matched.index[:, 0]], torch.zeros(len(points))
    if rule in ("official", "3d"):
        stale[skin] = (own[skin] - vertices[match(points[skin], vertices).index[:, 0]])[:, :2].norm(dim=1)
    x, y = project(vertices[None], camera, 1)[0, :, :2].T
    in_view = (x > 0) & (x < 1) & (y > 0) & (y < 1)
    return Correspondence(points, vertices, matched, n_samples, over, skin, inside, own[:, 2] - points[:, 2], stale, in_view)


def move(pairs: Correspondence, delta: Float[Tensor, "V 3"]) -> Motion:
    """Eq. 7 for the samples, and what it does to neighbours. delta: ΔV_t of the vertices that take part."""
    way = pairs.matched.gather(delta)
    side = round((len(way) / pairs.n_samples) ** 0.5)
    grid = way.view(side, side, pairs.n_samples, 3)
    jump = torch.zeros(grid.shape[:3])
    jump[:, :-1] = grid.diff(dim=1).norm(dim=-1)
    jump[:-1] = torch.maximum(jump[:-1], grid.diff(dim=0).norm(dim=-1))
    return Motion(way, jump.flatten(), grid_determinant(pairs.points, pairs.points + way, pairs.n_samples))


@dataclass(frozen=True)
class Anatomy:
    """What doesn't change while one head is looked at: v_init (N, 3), all vertices at rest; vertex numbers of the front (those
    that take part in matching at stride 1) and of the back of the head; the triangles that are skin: all corners in front."""

    v_init: Float[Tensor, "N 3"]
    front: Int[Tensor, "V"]
    back: Int[Tensor, "B"]
    triangles: Int[Tensor, "F 3"]


def anatomy(head: Head) -> Anatomy:
    """The anatomy of a talking head."""
    model = head.model
    v_init = model.vertices(head.face.identity, head.face.expression)
    front = face_vertices(model)
    part = torch.zeros(len(model.mean), dtype=torch.bool)
    part[front] = True
    back = (model.normals(v_init)[0, :, 2] < 0) & (model.regions["mouth_cavity"] < 0.5)
    return Anatomy(v_init[0], front, torch.nonzero(back)[:, 0], model.triangles[part[model.triangles].all(1)])


def examine(head: Head, beta: Float[Tensor, "1 E"], camera: Camera, rule: str = "paper", stride: int = 1, *,
            body: Anatomy | None = None, pairs: Correspondence | None = None) -> Examination:
    """All numbers and arrays for a head with expression β, seen by a camera. rule, stride: instead of the head's own.

    body, pairs: from earlier, to save time; pairs must be those of the same camera, rule and stride, and not of rule "now",
    whose match follows the expression.
    """
    unit = float(head.model.info["unit_mm"])
    body = anatomy(head) if body is None else body
    v_init, v_t, chosen = body.v_init, head.model.vertices(head.face.identity, beta)[0], body.front[::stride]
    if pairs is None:
        pairs = correspond(head.samples(camera), (v_t if rule == "now" else v_init)[chosen],
                           head.inversion.generator.config.n_samples, camera, rule, unit_mm=unit,
                           front=None if rule == "paper" and stride == 1 else v_init[body.front], back=v_init[body.back])
    motion = move(pairs, displacement(v_init[chosen], v_t[chosen], head.planar))
    truth = against_truth(v_init, v_t, body.triangles, chosen, camera, rule, planar=head.planar, moving=MOVING_MM / unit)
    report = summary(pairs, motion, truth, rule, stride, unit)
    return Examination(camera, report, pairs, motion, truth, v_init, v_t, chosen, unit)


def correspondence_report(head: Head, beta: Float[Tensor, "1 E"], camera: Camera, rule: str = "paper", stride: int = 1
                          ) -> CorrespondenceReport:
    """The numbers alone, of `examine`."""
    return examine(head, beta, camera, rule, stride).report


def summary(pairs: Correspondence, motion: Motion, truth: Truth, rule: str, stride: int, unit_mm: float
            ) -> CorrespondenceReport:
    """The report of given arrays. What there is nothing of (no sample at the skin, nothing that moves) counts as 0."""

    def mean(values: Tensor) -> float:
        return float(values.float().mean()) if len(values) else 0.0

    def rank(values: Tensor, share: float) -> float:
        return float(values.float().quantile(share)) if len(values) else 0.0

    distance, jump = pairs.matched.distance[pairs.over] * unit_mm, motion.jump[pairs.skin] * unit_mm
    counts, stale = pairs.per_vertex[pairs.in_view], pairs.stale[pairs.skin] * unit_mm
    error, true = truth.error * unit_mm, mean(truth.true.norm(dim=1)) * unit_mm
    return CorrespondenceReport(
        rule=rule, stride=stride, samples=len(pairs.points), samples_over_face=int(pairs.over.sum()),
        samples_at_skin=int(pairs.skin.sum()), vertices=len(pairs.vertices),
        match_median_mm=rank(distance, 0.5), match_p95_mm=rank(distance, 0.95), match_max_mm=rank(distance, 1.0),
        per_vertex_median=rank(counts, 0.5), per_vertex_max=int(rank(counts, 1.0)), unmatched_share=mean(counts == 0),
        behind_share=mean(pairs.gap[pairs.inside] * unit_mm > BEHIND_MM),
        jump_p95_mm=rank(jump, 0.95), jump_max_mm=rank(jump, 1.0), fold_share=mean(motion.determinant[pairs.skin] < 0),
        stale_share=mean(stale > 0), stale_mean_mm=mean(stale[stale > 0]), true_mean_mm=true,
        error_mean_mm=mean(error), error_p95_mm=rank(error, 0.95), error_max_mm=rank(error, 1.0),
        error_share=mean(error) / true if true else 0.0,
    )  # fmt: skip
