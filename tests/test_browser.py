"""The course in a real JupyterLab and a real browser: what a kernel alone can't show (Debian's Chromium, driven by Playwright).

The screenshots stay in figures/browser/, to be looked at after a run in CI.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHOTS = ROOT / "figures" / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--enable-unsafe-swiftshader",
         "--autoplay-policy=no-user-gesture-required"]  # fmt: skip
MINUTES = 60_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")


def serve(command: list[str], folder: Path, port: int):
    """Start a server in a folder and wait until it listens; returns the process."""
    environment = {**os.environ, "NFS_PROFILE": "fast", "JUPYTER_CONFIG_DIR": str(folder / ".jupyter")}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(240):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return process
        except OSError:
            assert process.poll() is None, f"{command[2]} ended with {process.returncode}"
            time.sleep(0.5)
    process.kill()
    raise AssertionError(f"{command[2]} doesn't answer")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the notebooks, which a session may write to."""
    folder = tmp_path_factory.mktemp("course")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, folder)
    (folder.parent / "figures").mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def lab(course):
    """Address of a JupyterLab on the copy."""
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", f"--notebook-dir={course}",
               "--IdentityProvider.token=", "--expose-app-in-browser"]  # fmt: skip
    process = serve(command, course, port)
    yield f"http://127.0.0.1:{port}/lab/tree"
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1500, "height": 1400})
    page.set_default_timeout(2 * MINUTES)
    yield page
    page.close()


def run_all(page, lab: str, name: str) -> None:
    """Open a notebook, and nothing that an earlier page left open, and run all of its cells."""
    page.goto(f"{lab}/{name}?reset")
    page.wait_for_function("name => window.jupyterapp?.shell?.currentWidget?.context?.path === name", arg=name)
    page.evaluate("""async () => {
        const { shell, commands } = window.jupyterapp, context = shell.currentWidget.context;
        await context.ready;
        await context.sessionContext.ready;
        window.ranAll = false;
        commands.execute('notebook:run-all-cells').then(() => { window.ranAll = true; });
    }""")


def number(page, name: str) -> int:
    return int(page.locator(f".nfs-{name}").first.inner_text())


def until(page, check, seconds: float = 30) -> bool:
    """Whether a condition comes true in time."""
    for _ in range(int(seconds * 5)):
        if check():
            return True
        page.wait_for_timeout(200)
    return False


PLOT = "const plot = document.querySelector('.nfs-figure .js-plotly-plot') || document.querySelector('.nfs-figure');"


def picked_in_3d(page) -> int:
    """Points of the 3D trace "picked"."""
    return page.evaluate(f"""() => {{ {PLOT}
        const trace = plot.data.find(t => t.name === 'picked');
        return trace && trace.x ? trace.x.length : 0;
    }}""")


def place(page, x: float, y: float) -> tuple[float, float]:
    """Where on the screen a position of the picture (pixels) is."""
    return tuple(page.evaluate(f"""([x, y]) => {{ {PLOT}
        const box = plot.getBoundingClientRect(), l = plot._fullLayout;
        return [box.left + l.xaxis._offset + l.xaxis.d2p(x), box.top + l.yaxis._offset + l.yaxis.d2p(y)];
    }}""", [x, y]))


def at_rest(page, look, seconds: float = 1) -> None:
    """Wait until what `look` returns stays the same for so long."""
    before, since = look(), time.monotonic()
    while time.monotonic() - since < seconds:
        page.wait_for_timeout(100)
        now = look()
        if now != before:
            before, since = now, time.monotonic()


def lasso(page) -> bool:
    """Draw a lasso around the mouth; whether it picked vertices. What a person sees to first is seen to: the picture is in view
    and stands still, and no earlier lasso lies there, whose corner the mouse would move instead."""
    page.locator(".nfs-debugger").first.scroll_into_view_if_needed()
    at_rest(page, lambda: place(page, 112, 168))
    page.mouse.dblclick(*place(page, 8, 8))
    page.wait_for_timeout(1000)
    ring = [place(page, x, y) for x, y in ((112, 168), (144, 168), (144, 196), (112, 196), (112, 168))]
    page.mouse.move(*ring[0])
    page.mouse.down()
    for x, y in ring[1:]:
        page.mouse.move(x, y, steps=8)
    page.mouse.up()
    return until(page, lambda: number(page, "picked-vertices") > 3)


def test_debugger_in_jupyterlab(lab, page):
    """Notebook 05: run all; a slider moves the report; a lasso and a click pick vertices in the picture and in 3D."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    run_all(page, lab, "05_alignment.ipynb")
    page.wait_for_selector(".nfs-debugger .nfs-figure .plot-container", timeout=4 * MINUTES)
    page.wait_for_function("window.ranAll", timeout=4 * MINUTES)     # until then JupyterLab scrolls and the kernel has no time
    debugger = page.locator(".nfs-debugger").first
    debugger.scroll_into_view_if_needed()
    report = page.locator(".nfs-report").first
    before = report.inner_text()
    handle = page.locator(".nfs-strength .noUi-handle").first
    handle.focus()
    handle.press("ArrowRight")
    handle.press("ArrowRight")
    assert until(page, lambda: report.inner_text() != before), "the slider changed nothing"

    at_rest(page, report.inner_text)                 # the second step of the slider, too
    assert number(page, "picked-vertices") == 0 and picked_in_3d(page) == 0
    if not any(lasso(page) for _ in range(3)):
        page.screenshot(path=SHOTS / "debugger_no_lasso.png")
        raise AssertionError(f"the lasso picked nothing; the mouth is at {place(page, 128, 180)} of 1500 × 1400")
    many = number(page, "picked-vertices")
    assert until(page, lambda: picked_in_3d(page) == many), "the 3D view doesn't follow"
    assert number(page, "picked-samples") > 0
    page.screenshot(path=SHOTS / "debugger.png")

    at = page.evaluate(f"""() => {{ {PLOT}
        const t = plot.data.find(t => t.name === 'vertices'), away = i => Math.hypot(t.x[i] - 128, t.y[i] - 140);
        let best = 0;
        for (let i = 0; i < t.x.length; i++)
            if (away(i) < away(best)) best = i;
        return [t.x[best], t.y[best]];
    }}""")
    page.mouse.click(*place(page, *at))
    assert until(page, lambda: number(page, "picked-vertices") == 1 and picked_in_3d(page) == 1), "the click picked no vertex"
    page.screenshot(path=SHOTS / "debugger_click.png")


def test_video_plays_in_jupyterlab(lab, page):
    """Notebook 00: run all, play the video at its end."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    run_all(page, lab, "00_quickstart.ipynb")
    page.wait_for_function("document.querySelector('.jp-OutputArea video')", timeout=5 * MINUTES)
    video = page.locator(".jp-OutputArea video").first
    video.scroll_into_view_if_needed()
    page.evaluate("v => { v.muted = true; v.currentTime = 0; return v.play(); }", video.element_handle())
    page.wait_for_function("v => v.currentTime > 0.5", arg=video.element_handle())
    size = page.evaluate("v => [v.videoWidth, v.videoHeight, v.duration]", video.element_handle())
    assert size[:2] == [256, 256] and 1.5 < size[2] < 3
    page.screenshot(path=SHOTS / "quickstart.png")


def test_voila_serves_the_debugger(course, page):
    """`make app`: notebook 05 as a plain web page, without code."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    port = free_port()
    process = serve([sys.executable, "-m", "voila", "05_alignment.ipynb", "--no-browser", f"--port={port}"], course, port)
    try:
        page.goto(f"http://127.0.0.1:{port}/", timeout=4 * MINUTES)
        page.wait_for_selector(".nfs-debugger .nfs-figure .plot-container", timeout=4 * MINUTES)
        report = page.locator(".nfs-report").first
        before = report.inner_text()
        page.locator(".nfs-rule select").first.select_option("3d")
        assert until(page, lambda: report.inner_text() != before), "choosing a rule changed nothing"
        assert not re.search(r"^from nfs_lib", page.locator("body").inner_text(), re.MULTILINE), "code is shown"
        page.screenshot(path=SHOTS / "app.png")
    finally:
        process.terminate()
        process.wait(30)
