"""The page in a real browser, beside a real training run."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import asyncrl
from asyncrl.dashboard import Page
from asyncrl.dashboard.player.outputs import bars
from asyncrl.envs import describe
from asyncrl.networks import PolicyOutput
from asyncrl.networks.distributions import Deterministic

SMALL: dict[str, Any] = dict(actors=2, envs_per_actor=4, engine="serial", eval_episodes=3, progress=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two short runs."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        asyncrl.train("CartPole-v1", "a3c", steps=2_000, seed=seed, run_dir=folder / f"seed-{seed}", **SMALL)
    return folder


@pytest.fixture(scope="module")
def page_of_runs(runs: Path) -> Iterator[Page]:
    with Page([runs]) as served:
        yield served


@pytest.fixture(scope="module")
def modules(browse: Any, page_of_runs: Page) -> Iterator[Any]:
    """An open page for tests that only call functions of its modules and change nothing that it shows."""
    with browse(page_of_runs.url) as page:
        yield page


@pytest.fixture
def page_of_copy(runs: Path, tmp_path: Path) -> Iterator[tuple[Page, Path]]:
    """A page of one run, and its folder, which may be changed."""
    run = Path(shutil.copytree(runs / "seed-1", tmp_path / "run"))
    with Page([run]) as served:
        yield served, run


def test_curves_grow_while_a_run_trains(browse: Any, until: Any, tmp_path: Path) -> None:
    stops = threading.Event()

    def go_on(record: dict[str, Any]) -> asyncrl.Stop | None:
        is_over = record["kind"] == "train" and stops.wait(0.2)  # the browser needs the processor
        return asyncrl.Stop("seen enough") if is_over else None

    def train() -> None:
        asyncrl.train(
            "CartPole-v1", "a3c", steps=50_000_000, log_every=500, run_dir=tmp_path / "run", callbacks=[go_on], **SMALL
        )

    thread = threading.Thread(target=train)
    with Page([tmp_path]) as served, browse(served.url) as page:
        until(page, "document.querySelector('#note').textContent.startsWith('There is no run in')")
        thread.start()
        try:
            until(page, "document.querySelector('#state').textContent === 'running'")
            until(page, "document.querySelector('#score canvas').getAttribute('aria-label').match(/run \\d/)")
            label = page.get_attribute("#score canvas", "aria-label")
            drawn = page.evaluate("document.querySelector('#score canvas').toDataURL()")
            until(page, f"document.querySelector('#score canvas').getAttribute('aria-label') !== {label!r}")
            until(page, f"document.querySelector('#score canvas').toDataURL() !== {drawn!r}")
        finally:
            stops.set()
            thread.join()
        until(page, "document.querySelector('#note').textContent.includes('seen enough')")
        assert page.text_content("#state") == "stopped"


def test_the_newest_rewind_is_named(browse: Any, until: Any, page_of_copy: tuple[Page, Path]) -> None:
    served, run = page_of_copy
    with browse(served.url) as page, open(run / "metrics.jsonl", "a", encoding="utf-8") as metrics:
        until(page, "document.querySelector('#about').textContent.endsWith('seed 1')")
        for number, step, diverged in ((1, 1_000, 1_500), (2, 1_200, 1_800)):
            rewind = dict(number=number, diverged=diverged, learning_rate=1e-4, reason="The loss is not finite.")
            print(
                json.dumps({"step": step, "update": 9, "time": 1.0, "kind": "rewind", **rewind}), file=metrics, flush=True
            )
        about = "seed 1 · diverged at step 1,800 and went back to step 1,200 (rewind 2)"
        until(page, f"document.querySelector('#about').textContent.endsWith({about!r})")


def test_numbers_keep_their_digits(modules: Any) -> None:
    shown = {
        0.0123: "0.0123",
        0.0025: "0.0025",
        0.0012344: "0.001234",
        1.2e-5: "1.2e-5",
        -1.5: "-1.5",
        12_345: "12,345",
        1_234_567: "1,234,567",
        12_345.678: "12,345.7",
    }
    numbers = "async (values) => values.map((await import(`${location.pathname}common.js`)).number)"
    assert modules.evaluate(numbers, list(shown)) == list(shown.values())


def test_a_chosen_part_is_forgotten_with_its_axis_and_with_its_runs(browse: Any, until: Any, page_of_runs: Page) -> None:
    drawn = "document.querySelector('#score canvas').toDataURL()"
    with browse(page_of_runs.url) as page:
        until(page, "document.querySelector('#score canvas').getAttribute('aria-label').includes('seed')")

        def settled() -> str:
            picture = ""
            while picture != (picture := page.evaluate(drawn)):
                page.wait_for_timeout(300)
            return picture

        def is_drawn(unlike: str) -> str:
            until(page, f"{drawn} !== {unlike!r}")
            return settled()

        def drag() -> str:
            before, box = page.evaluate(drawn), page.locator("#score canvas").first.bounding_box()
            page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 50)
            page.mouse.down()
            page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 50)
            page.mouse.up()
            page.mouse.move(0, 0)
            return is_drawn(unlike=before)

        over_steps = settled()
        page.select_option("#axis", "time")
        over_time = is_drawn(unlike=over_steps)
        page.select_option("#axis", "step")
        assert is_drawn(unlike=over_time) == over_steps
        part = drag()
        page.select_option("#axis", "time")
        assert is_drawn(unlike=part) == over_time
        part = drag()
        page.click("#runs summary")
        page.check("text=seed-1 >> xpath=ancestor::tr >> input[type=checkbox]")
        is_drawn(unlike=part)


def test_the_y_axis_fits_the_chosen_part(browse: Any, page_of_runs: Page) -> None:
    highest = """async () => {
        const { Chart, setRange } = await import(`${location.pathname}chart.js`);
        const chart = new Chart({ title: "Return" });
        const x = [...Array(100).keys()];
        const y = x.map((step) => (step < 50 ? step : 1000 * step));
        chart.set([{ name: "run", color: "red", x, y, dots: true, faint: true }], "step");
        document.querySelector("#score").replaceChildren(chart.element);
        let highest = Infinity;
        for (let i = 0; i < 100 && highest > 50; i++) {  // the page itself forgets the part when it shows its runs
            setRange([0, 49]);
            await new Promise(requestAnimationFrame);
            if (chart.scale) highest = Math.max(...chart.scale.marks);
        }
        return highest;
    }"""
    with browse(page_of_runs.url) as page:
        assert 40 <= page.evaluate(highest) <= 50


def test_the_y_axis_of_equal_values_does_not_show_their_rounding(browse: Any, page_of_runs: Page) -> None:
    marks = """async () => {
        const { Chart } = await import(`${location.pathname}chart.js`);
        const chart = new Chart({ title: "Episode length" });
        chart.set([{ name: "run", color: "red", x: [0, 1, 2], y: [200, 200 + 3e-14, 200 - 6e-14] }], "step");
        document.querySelector("#score").replaceChildren(chart.element);
        while (!chart.scale) await new Promise(requestAnimationFrame);
        return chart.scale.marks;
    }"""
    with browse(page_of_runs.url) as page:
        low, *_, high = page.evaluate(marks)
        assert high - low > 1


def test_the_title_of_a_small_chart_stays_beside_the_values_of_four_runs(browse: Any, page_of_runs: Page) -> None:
    hidden = """async () => {
        const { Chart } = await import(`${location.pathname}chart.js`);
        const chart = new Chart({ title: "KL divergence", unit: "nats" });
        const series = [1, 2, 3, 4].map((n) => ({ name: `run ${n}`, color: "red", x: [0, 1], y: [0, -n / 7000] }));
        chart.set(series, "step");
        const grid = document.querySelector("#curves .grid");
        grid.style.width = "240px";
        grid.prepend(chart.element);
        await new Promise(requestAnimationFrame);
        const parts = [...chart.element.querySelectorAll("figcaption, .title")];
        return parts.map((part) => part.scrollWidth - part.clientWidth);
    }"""
    with browse(page_of_runs.url) as page:
        assert page.evaluate(hidden) == [0, 0]


def test_the_best_evaluation_and_that_of_a_checkpoint_are_no_means_of_others(
    browse: Any, until: Any, page_of_copy: tuple[Page, Path]
) -> None:
    served, run = page_of_copy
    last = max(int(path.name) for path in (run / "checkpoints").iterdir())
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        for i in range(2_000):
            mean = {700: 12_345.0, 1_000: 777.0}.get(i, 1.0)
            step = last if i == 1_000 else last + i + 1
            file.write(json.dumps({"step": step, "update": 1, "time": 1.0, "kind": "eval", "mean": mean}) + "\n")
    with browse(served.url) as page:
        until(page, "document.querySelector('#tiles').textContent.includes('12,345of 2')")
        page.click("#tab-checkpoints")
        until(page, "document.querySelector('#panel').textContent.includes('777')")


def test_the_player_does_not_offer_a_checkpoint_that_was_removed(
    browse: Any, until: Any, page_of_copy: tuple[Page, Path]
) -> None:
    served, run = page_of_copy
    first = min((run / "checkpoints").iterdir())
    offered = f"[...document.querySelectorAll('#player option')].some((one) => one.value === {first.name!r})"
    with browse(served.url, plays=True) as page:
        page.locator("#player .bar").first.wait_for(timeout=60_000)
        page.wait_for_timeout(500)
        assert page.evaluate(offered)
        shutil.rmtree(first)
        until(page, f"!{offered}")


def test_a_continuous_action_of_zero_is_an_empty_bar_with_a_mark(modules: Any) -> None:
    zero = torch.zeros(1, 1, 1)
    actions = describe("Pendulum-v1").spaces.actions
    output = PolicyOutput(Deterministic(zero), torch.zeros(1, 0))
    group = [dataclasses.asdict(one) for one in bars(output, actions, [("action",)], zero[0].numpy())]
    shown = """async (groups) => {
        const { Bars } = await import(`${location.pathname}player-drawing.js`);
        const drawn = new Bars();
        drawn.show(groups);
        const [{ fill, taken }] = drawn.rows[0];
        return [fill.style.left, fill.style.width, taken.hidden, taken.style.left];
    }"""
    assert modules.evaluate(shown, group) == ["50%", "0%", False, "50%"]


def test_a_step_that_is_shown_again_keeps_the_values_before_it(modules: Any) -> None:
    points = """async () => {
        const { ValueChart } = await import(`${location.pathname}player-drawing.js`);
        const chart = new ValueChart();
        for (const [step, value] of [[1, 0.1], [2, 0.2], [2, 0.5]]) chart.add(step, value, "V(s)");
        return chart.points;
    }"""
    assert modules.evaluate(points) == [[1, 0.1], [2, 0.5]]


def test_an_action_between_zero_and_one_is_no_percentage(modules: Any) -> None:
    shown = """async () => {
        const { Bars } = await import(`${location.pathname}player-drawing.js`);
        const drawn = new Bars();
        const one = { names: ["x"], values: [0.25], chosen: [0.25], spreads: [], low: 0, high: 1 };
        drawn.show([{ ...one, title: "an action", is_continuous: true }, { ...one, title: "probabilities", chosen: [0] }]);
        return drawn.rows.map(([{ value }]) => value.textContent);
    }"""
    assert modules.evaluate(shown) == ["0.25", "25 %"]


def test_messages_of_a_player_are_drawn_in_their_order(browse: Any, page_of_runs: Page) -> None:
    drawn = """async () => {
        const { openStream } = await import(`${location.pathname}player-stream.js`);
        const message = (step) => {
            const body = new TextEncoder().encode(JSON.stringify({ step }));
            return new Uint8Array([0, 0, 0, body.length, 0, 0, 0, 0, ...body]);
        };
        window.fetch = async () => new Response(new Blob([message(1), message(2)]));
        const steps = [];
        const draw = async ({ step }) => {
            await new Promise((done) => setTimeout(done, step === 1 ? 100 : 0));  // as decoding a picture takes
            steps.push(step);
        };
        await new Promise((ended) => openStream("0", draw, ended));
        return steps;
    }"""
    with browse(page_of_runs.url) as page:
        assert page.evaluate(drawn) == [1, 2]


def test_a_player_that_is_refused_again_says_the_new_reason(browse: Any, until: Any, page_of_runs: Page) -> None:
    refuse_twice = """async () => {
        const { mountPlayer } = await import(`${location.pathname}player.js`);
        const body = new TextEncoder().encode(JSON.stringify({ kind: "refused", message: "the first reason" }));
        const answers = [new Response(new Blob([new Uint8Array([0, 0, 0, body.length, 0, 0, 0, 0]), body]))];
        window.fetch = async (path) => (path.endsWith("/stream") && answers.pop())
            || new Response(JSON.stringify({ error: "the second reason" }), { status: 409 });
        const section = document.createElement("section");
        section.id = "refused";
        document.querySelector("main").prepend(section);
        mountPlayer(section).show([{ id: "0", name: "run" }]);
    }"""
    notice = "document.querySelector('#refused .notice').textContent"
    with browse(page_of_runs.url) as page:
        page.evaluate(refuse_twice)
        until(page, f"{notice} === 'the first reason'")
        page.click("#refused .start")
        until(page, f"{notice} === 'the second reason'")


def test_that_the_server_has_ended_stays_on_the_page(browse: Any, until: Any, page_of_copy: tuple[Page, Path]) -> None:
    served, _ = page_of_copy
    with browse(served.url, server_ends=True) as page:
        until(page, "document.querySelector('#state').textContent === 'finished'")
        served.close()
        until(page, "document.querySelector('#note').textContent.startsWith('The server has ended')")
        page.click("#theme")  # draws the page again
        page.wait_for_timeout(200)
        assert page.locator("#note").is_visible()


def test_two_runs_are_drawn_over_one_another(browse: Any, until: Any, page_of_runs: Page) -> None:
    with browse(page_of_runs.url) as page:
        page.click("#runs summary")
        page.check("text=seed-1 >> xpath=ancestor::tr >> input[type=checkbox]")
        until(page, "document.querySelectorAll('#legend li').length === 2")
        until(
            page,
            "document.querySelector('#score canvas').getAttribute('aria-label').match(/seed-1.*seed-2|seed-2.*seed-1/)",
        )
        page.click("#legend >> text=seed-1")
        until(page, "document.querySelector('#name').textContent === 'seed-1'")
        assert re.search(r"#\d,\d$", page.url)


def test_a_curve_is_read_with_the_keyboard_alone(browse: Any, until: Any, page_of_runs: Page) -> None:
    with browse(page_of_runs.url) as page:
        until(page, "document.querySelector('#score canvas').getAttribute('aria-label').includes('seed')")
        page.focus("#score canvas")
        page.keyboard.press("Home")
        assert re.match(r"Return at step \d+", page.get_attribute("#score canvas", "aria-label"))
        page.locator("#score .tip").first.wait_for()
        page.keyboard.press("Escape")
        until(page, "document.querySelector('#score canvas').getAttribute('aria-label').includes('seed')")
        page.focus("#tab-episodes")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.textContent") == "Checkpoints"
        page.wait_for_selector("#panel >> text=latest")


def test_the_page_fits_a_phone_in_the_dark(browse: Any, until: Any, page_of_runs: Page) -> None:
    phone = dict(viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
    with browse(page_of_runs.url, **phone) as page:
        until(page, "document.querySelector('#score canvas').getAttribute('aria-label').includes('seed')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 27)"


def test_every_control_has_a_name_for_screen_readers(browse: Any, until: Any, page_of_runs: Page) -> None:
    named = "one.ariaLabel || one.textContent.trim() || one.closest('label') || one.getAttribute('aria-labelledby')"
    controls = "[...document.querySelectorAll('button, input, select, canvas, [role]')]"
    nameless = f"{controls}.filter((one) => one.checkVisibility() && !({named})).map((one) => one.outerHTML)"
    with browse(page_of_runs.url) as page:
        until(page, "document.querySelector('#score canvas').getAttribute('aria-label').includes('seed')")
        page.click("#runs summary")
        assert page.evaluate(nameless) == []


def test_train_watch_serves_the_run_until_it_ends(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "asyncrl",
        "train",
        "random",
        "CartPole-v1",
        "--steps",
        "400",
        "--watch",
        "--run-dir",
        "run",
    ]
    done = subprocess.run(
        [*command, "--no-video", "--engine", "serial"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (url,) = re.findall(r"^live page: (http://127\.0\.0\.1:\d+/[\w-]{32}/)$", done.stdout, re.M)
    assert url.split("/")[3] not in (tmp_path / "run" / "log.txt").read_text(), "the token stays out of the run folder"
