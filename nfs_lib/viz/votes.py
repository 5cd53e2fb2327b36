"""The shares of a user study's votes."""

from nfs_lib.studies.user_study import MADE_UP
from nfs_lib.studies.votes import Analysis
from nfs_lib.viz.style import COLOURS, Plot, panels, styled


@styled
def vote_shares(analysis: Analysis) -> Plot:
    """Each question's shares by method with their 95 % intervals, and a dashed line where all would be equal."""
    answers = analysis.answers
    methods = [share.method for share in answers[0].shares]
    figure, axes = panels(len(answers), 1, 7.5, 0.75 + len(answers) * (0.62 + 0.27 * len(methods)), share_x=True)
    colour = "#999999" if analysis.made_up else COLOURS[0]
    for panel, answer in zip(axes[:, 0], answers, strict=True):
        share = [100 * s.share for s in answer.shares]
        sides = [[100 * (s.share - s.low) for s in answer.shares], [100 * (s.high - s.share) for s in answer.shares]]
        panel.barh([s.method for s in answer.shares], share, color=colour, height=0.62, alpha=0.55)
        panel.errorbar(share, range(len(share)), xerr=sides, fmt="none", ecolor="#222222", elinewidth=1.2, capsize=2.5)
        panel.axvline(100 / len(methods), color="#222222", linestyle="--", linewidth=0.8)
        p = answer.permutation_p
        panel.set(title=f"{answer.question}: {answer.votes} votes, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'} (equal liking)",
                  xlim=(0, 100))  # fmt: skip
        panel.invert_yaxis()
    made_up = f" ({MADE_UP})" if analysis.made_up else ""
    axes[-1, 0].set_xlabel(f"share of the votes for the best, %{made_up}; dashed: equal shares")
    figure.suptitle(analysis.title, fontsize=10)
    return figure
