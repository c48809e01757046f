"""`sightstream web` in a real browser, beside a running stream.

Its screenshots for the documentation: pytest tests/e2e/test_browser.py --screenshots docs
"""

import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from sightstream.tables.labels import Labels

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
HOSTILE = "<img src=x onerror=document.title='taken'>.png"
SCRIPT = "<script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def home(new_home, pytestconfig):
    """A champion, and as its challenger a copy of it, or for a picture one that learnt less."""
    home = new_home(own_registry=True)
    if pytestconfig.getoption("--screenshots"):
        done = home("train", "starter", "--epochs", "10", "--seed", "1", "--no-promote")
        assert done.returncode == 0, done.stderr
        shutil.rmtree(home.settings.root / "starter" / "samples")
        return home
    home.publish_copies(1)
    return home


@pytest.fixture(scope="module")
def site(home):
    """The address of the page, while the stream runs on the same home, with a shadow."""
    with home.running("--shadow", "starter@challenger"), home.serving() as process:
        yield process.url


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("there is no Chromium; install it with: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        running = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *camera]
        )
        yield running
        running.close()


@pytest.fixture(scope="module")
def window(browser, site):
    """One window; at its end it has asked nobody but the page, and no name ran as a script."""
    asked = []
    window = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    window.on("request", lambda request: asked.append(request.url))
    window.set_default_timeout(60_000)
    yield window
    assert window.title() != "taken"
    allowed = (site, site.replace("http", "ws"), "data:", "blob:")
    assert [url for url in asked if not url.startswith(allowed)] == []


@pytest.fixture
def picture(window, pytestconfig):
    """Takes a picture of the page for the documentation, where that is asked for."""

    def take(name, height):
        if folder := pytestconfig.getoption("--screenshots"):
            window.set_viewport_size({"width": 1280, "height": height})
            window.wait_for_timeout(2500)  # for what glides into its place
            window.screenshot(path=Path(folder) / f"web-{name}.png")

    return take


@pytest.fixture
def upload(window):
    """Uploads a file, and returns the seconds until its answer is there."""

    def bring(path):
        at_rest(window)
        begin = time.monotonic()
        window.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(path)
        window.get_by_test_id("stText").get_by_text(path.name).wait_for()
        return time.monotonic() - begin

    return bring


@pytest.fixture
def drop(home):
    """Drops a file whole, under any name."""

    def into_inbox(content, name):
        whole = home.settings.root / "whole"
        whole.write_bytes(content)
        whole.rename(home.settings.inbox / name)

    return into_inbox


def at_rest(window):
    """Waits until the script of the page has run to its end."""
    window.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def press(window, key, until, heard):
    """Presses a key; once more where the page was just drawn anew, and did not hear it."""
    at_rest(window)
    window.keyboard.press(key)
    try:
        until(heard, 10)
    except AssertionError:
        window.keyboard.press(key)
        until(heard)


def spoken(content):
    """A PNG that says something in its EXIF and its text."""
    from io import BytesIO

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text, exif, held = PngInfo(), Image.Exif(), BytesIO()
    text.add_text("Comment", SCRIPT)
    exif[0x010E] = SCRIPT
    Image.open(BytesIO(content)).save(held, "PNG", pnginfo=text, exif=exif)
    return held.getvalue()


def test_an_upload_is_answered_at_once(window, site, starter, upload, picture):
    window.goto(site)
    window.get_by_text("distinguishes 10 labels").wait_for()
    first, others = starter.digits[185], starter.digits[405::400]
    upload(first)
    seconds = []
    for digit in others:
        seconds.append(upload(digit))
    at_rest(window)
    said = [each.inner_text() for each in window.locator("h3").all()]
    assert said[1:] == [each.parent.name for each in others]
    window.get_by_text("Show which pixels decided").click()
    window.get_by_text("hiding it makes").first.wait_for()
    window.locator(f"img[alt^='{first.name}: the pixels that decided']").wait_for()
    window.mouse.move(0, 0)
    picture("classify", 985)
    print("upload to answer, s:", [round(each, 2) for each in seconds])


def test_a_photograph_is_answered(window, site, until):
    window.goto(site)
    window.get_by_role("tab", name="Camera").click()
    window.get_by_text("Use the camera").click()
    window.wait_for_function("document.querySelector('video')?.readyState > 1")
    taken = window.get_by_role("img", name="camera-input")

    def photographed():  # a camera that has just begun may have no picture yet
        if not taken.is_visible():
            window.get_by_role("button", name="Take Photo").click()
            window.wait_for_timeout(1000)
        return taken.is_visible()

    until(photographed, 60)
    window.get_by_text("starter version 1 on onnx").wait_for()


def test_a_dropped_image_is_on_the_live_page(
    window, site, starter, drop, until, home, picture, pytestconfig
):
    drop(b"no picture", "broken.jpg")
    mixed = sorted(starter.digits[::12], key=lambda digit: digit.name[::-1])
    for digit in mixed:
        drop(digit.read_bytes(), digit.name)
        time.sleep(0.2 if pytestconfig.getoption("--screenshots") else 0)
    until(lambda: home.count() > len(starter.digits) // 12, 60)
    window.goto(f"{site}/live")
    window.get_by_text("the newest first").wait_for()
    picture("live", 910)
    seconds = []
    for number, digit in enumerate(starter.digits[1::300]):
        name = f"arrived {number} {HOSTILE}"
        begin = time.monotonic()
        drop(spoken(digit.read_bytes()), name)
        window.get_by_text(name, exact=True).wait_for()
        seconds.append(time.monotonic() - begin)
    print("dropped to live page, s:", [round(each, 2) for each in seconds])
    window.get_by_role("img", name=f"arrived 0 {HOSTILE}").wait_for()


def test_a_row_opens_all_that_is_known(window, home):
    newest = max(home.table().to_pylist(), key=lambda row: row["event_time"])
    window.get_by_role("button", name="Open").first.click()
    drawer = window.get_by_role("dialog")
    drawer.get_by_role("table").get_by_text(newest["original_name"], exact=True).wait_for()
    assert newest["event_id"] in window.url
    drawer.get_by_role("img", name=newest["original_name"]).wait_for()
    window.keyboard.press("Escape")
    drawer.wait_for(state="detached")


def test_one_key_labels_the_least_certain_image(window, site, home, picture, until):
    rows = [row for row in home.table().to_pylist() if row["status"] == "ok"]
    least = min(rows, key=lambda row: (row["score"], row["event_id"]))
    window.goto(f"{site}/label")
    window.get_by_text(least["original_name"], exact=True).wait_for()
    picture("label", 860)

    def labelled():
        found = Labels(home.settings.labels).current().to_pylist()
        return {row["event_id"]: row["label"] for row in found}

    press(window, "7", until, lambda: labelled() == {least["event_id"]: "7"})
    window.get_by_text("is 7").wait_for()
    press(window, "u", until, lambda: labelled() == {})
    window.get_by_text(least["original_name"], exact=True).wait_for()


def test_another_label_is_written_where_it_can_be_one(window, home, until):
    for label, answer in (("../etc", "cannot be a label"), ("half a seven", "does not know")):
        at_rest(window)
        window.get_by_label("Another label").fill(label)
        window.keyboard.press("Enter")
        window.get_by_role("button", name="Save").click()
        window.get_by_text(answer).wait_for()
    found = Labels(home.settings.labels).current()["label"].to_pylist()
    assert found == ["half a seven"]


def test_champion_and_challenger_are_compared(window, site, picture):
    window.goto(f"{site}/models")
    window.get_by_text("Version 2 · challenger").first.wait_for()
    window.get_by_role("heading", name="On the stream's images").wait_for()
    window.get_by_text("Learning curves").wait_for()
    picture("models", 1500)
    window.get_by_role("tab", name="Most confidently wrong").click()
    window.get_by_role("img", name="The most confidently wrong answers").first.wait_for()


def test_a_promotion_is_confirmed_and_reaches_the_stream(window, site, home, drop, starter, until):
    window.goto(f"{site}/models")
    window.get_by_role("button", name="Promote…").click()
    window.get_by_role("dialog").get_by_role("button", name="Promote").click()
    window.get_by_text("Version 2 of starter is the champion.").wait_for()

    def by_the_new_one():
        drop(starter.digits[0].read_bytes(), "after.png")
        return any(row["model_version"] == 2 for row in home.table().to_pylist())

    until(by_the_new_one)


@pytest.mark.parametrize("width", [400, 1000])
def test_no_page_is_wider_than_its_window(browser, site, width):
    narrow = browser.new_page(viewport={"width": width, "height": 800})
    for page in ("", "live", "models", "label"):
        narrow.goto(f"{site}/{page}")
        narrow.get_by_role("heading").first.wait_for()
        wide = "document.querySelector('[data-testid=stMain]').scrollWidth"
        assert narrow.evaluate(wide) <= width, page
    narrow.close()


def test_a_port_in_use_is_a_clear_error(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = home("web", "--port", port)
    assert done.returncode == 3
    assert done.stderr == (
        f"sightstream: the page cannot listen on 127.0.0.1:{port}: Address already in use; "
        "give another --port or --host\n"
    )


def test_ctrl_c_ends_it_with_its_processes(home):
    with home.serving() as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
