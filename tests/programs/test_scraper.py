"""The scraper prints one line for each address, whatever its outcome."""

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from checked import START_METHODS, Ran, program, run  # noqa: E402
from scraper.addresses import problem, read_addresses, without_repeats  # noqa: E402

pytest.importorskip("requests")
pytest.importorskip("procession")

LIMIT = 60.0
BODY = b"Hello from the site!\n"


class Site(ThreadingHTTPServer):
    """A site in this process that remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Pages)
        self.asked: Counter[str] = Counter()
        self.hanging = threading.Event()
        self.over = threading.Event()

    def address(self, path: str) -> str:
        """The address of one page."""
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Pages(BaseHTTPRequestHandler):
    """The pages of the site."""

    server: Site

    def do_GET(self) -> None:
        """Answer, or do what the page is named after."""
        self.server.asked[self.path] += 1
        match self.path.strip("/").split("/"):
            case ["missing", *_]:
                self.answer(404)
            case ["status", status]:
                self.answer(int(status))
            case ["unwell", times]:
                self.answer(503 if self.server.asked[self.path] <= int(times) else 200)
            case ["round", *_]:
                self.send_response(302)
                self.send_header("Location", self.path)
                self.end_headers()
            case ["astray", *_]:
                self.send_response(302)
                self.send_header("Location", "http://[nowhere/")
                self.end_headers()
            case ["nonsense", *_]:
                self.wfile.write(b"this is not HTTP\r\n\r\n")
            case ["hang", *_]:
                self.server.hanging.set()
                self.server.over.wait(LIMIT)
            case ["drip", *_]:
                self.drip()
            case ["cut", *_]:
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(BODY)
            case ["deadly", *_]:
                os.kill(process_behind(self.client_address[1]), signal.SIGKILL)
            case _:
                self.answer(200)

    def answer(self, status: int) -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def drip(self) -> None:
        """An answer that never falls silent and never ends in time."""
        self.send_response(200)
        self.send_header("Content-Length", "400")
        self.end_headers()
        for _ in range(400):
            if self.server.over.wait(0.05):
                return
            self.wfile.write(b".")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def process_behind(port: int) -> int:
    """The process that holds the client's end of a connection from this port of this machine."""
    table = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(row[9] for row in table if int(row[1].split(":")[1], 16) == port and row[9] != "0")
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) == f"socket:[{inode}]":
                return int(link.parts[2])
        except OSError:
            continue
    raise LookupError(f"nobody holds port {port}")


@pytest.fixture
def site() -> Iterator[Site]:
    """A running site."""
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def scrape(*arguments: str) -> Ran:
    """Run the scraper; a hang shows its stacks."""
    ran = run(program("scrape.py", *arguments), LIMIT)
    assert not ran.hung, ran.errors
    assert "Traceback" not in ran.errors, ran.errors
    return ran


def records(*arguments: str) -> dict[str, dict[str, str]]:
    """Run the scraper for CSV; the rows by address."""
    rows = list(csv.DictReader(io.StringIO(scrape("--format", "csv", *arguments).output)))
    by_address = {row["address"]: row for row in rows}
    assert len(by_address) == len(rows)
    return by_address


def test_each_page_gets_its_line(site: Site) -> None:
    """Each fetched page prints its address and status code, and the exit status is 0."""
    addresses = [site.address(f"/page/{page}") for page in range(20)]
    ran = scrape(*addresses)
    assert sorted(ran.output.splitlines()) == sorted(f"URL: {each}, Status Code: 200" for each in addresses)
    assert ran.status == 0
    assert "20 of 20 addresses: 20 ok" in ran.errors


@pytest.mark.parametrize("start_method", START_METHODS)
def test_what_fails_gets_its_own_line_and_stops_nothing(site: Site, start_method: str) -> None:
    """Malformed, missing, refused and failing addresses stand between good ones."""
    with Site() as closed:
        refusing = closed.address("/")
    ran = scrape(
        *("--start-method", start_method, "--retries", "0", "no-scheme.example"),
        *(site.address("/first"), site.address("/missing"), site.address("/status/500"), refusing),
        *(site.address("/round"), site.address("/astray"), "http://[half", site.address("/cut")),
        *(site.address("/nonsense"), site.address("/last")),
    )
    lines = set(ran.output.splitlines())
    assert f"URL: {site.address('/first')}, Status Code: 200" in lines
    assert f"URL: {site.address('/last')}, Status Code: 200" in lines
    assert f"URL: {site.address('/missing')}, Status Code: 404 (Not Found)" in lines
    assert f"URL: {site.address('/status/500')}, Status Code: 500 (Internal Server Error)" in lines
    assert f"URL: {refusing}, Failed: refused (connection refused)" in lines
    assert f"URL: {site.address('/round')}, Failed: bad status (more than 10 redirects)" in lines
    assert any(line.startswith(f"URL: {site.address('/cut')}, Failed: broken") for line in lines)
    assert any(line.startswith(f"URL: {site.address('/nonsense')}, Failed: broken") for line in lines)
    assert any(line.startswith(f"URL: {site.address('/astray')}, Failed: malformed") for line in lines)
    assert "URL: no-scheme.example, Failed: malformed (no scheme: put http:// or https:// in front)" in lines
    assert any(line.startswith("URL: http://[half, Failed: malformed") for line in lines)
    assert len(lines) == 11
    assert ran.status == 1


def test_a_page_that_never_answers_times_out(site: Site) -> None:
    """A hang costs the timeout, once for each attempt."""
    ran = scrape("--timeout", "0.4", "--retries", "1", site.address("/hang"))
    assert ran.output == (
        f"URL: {site.address('/hang')}, Failed: timed out (no answer within 0.4 s; 2 attempts)\n"
    )
    assert site.asked["/hang"] == 2


def test_a_page_that_drips_times_out(site: Site) -> None:
    """The timeout bounds the page, not only the silence between two bytes."""
    ran = scrape("--timeout", "0.4", "--retries", "0", site.address("/drip"))
    assert "Failed: timed out" in ran.output


def test_a_passing_failure_is_asked_again(site: Site) -> None:
    """Two temporary refusals and then an answer: three attempts."""
    row = records("--retries", "3", site.address("/unwell/2"))[site.address("/unwell/2")]
    assert (row["kind"], row["status"], row["attempts"]) == ("ok", "200", "3")
    assert site.asked["/unwell/2"] == 3


def test_retries_come_to_an_end(site: Site) -> None:
    """The last failure is the outcome."""
    row = records("--retries", "1", site.address("/unwell/9"))[site.address("/unwell/9")]
    assert (row["kind"], row["status"], row["attempts"]) == ("bad status", "503", "2")


def test_what_will_not_get_better_is_asked_once(site: Site) -> None:
    """A missing page stays missing."""
    row = records("--retries", "5", site.address("/missing"))[site.address("/missing")]
    assert row["attempts"] == "1"
    assert site.asked["/missing"] == 1


def test_csv_has_a_row_an_address(site: Site) -> None:
    """Numbers a spreadsheet can read, and empty where there is none."""
    rows = records(site.address("/a"), site.address("/missing"), "nonsense, with a comma")
    assert rows[site.address("/a")]["size"] == str(len(BODY))
    assert float(rows[site.address("/a")]["seconds"]) > 0
    assert rows[site.address("/missing")]["detail"] == "Not Found"
    assert rows["nonsense, with a comma"]["kind"] == "malformed"
    assert rows["nonsense, with a comma"]["status"] == ""


def test_json_is_one_document_in_a_file(site: Site, tmp_path: Path) -> None:
    """Outcomes and summary; nothing goes to standard output then."""
    file = tmp_path / "report.json"
    ran = scrape("--format", "json", "--output", str(file), site.address("/a"), site.address("/missing"))
    document = json.loads(file.read_text())
    assert ran.output == ""
    assert {outcome["address"]: outcome["status"] for outcome in document["outcomes"]} == {
        site.address("/a"): 200,
        site.address("/missing"): 404,
    }
    assert document["summary"]["kinds"] == {"ok": 1, "not found": 1}
    assert document["summary"]["bytes"] == 2 * len(BODY)


def test_addresses_come_from_a_file_too(site: Site, tmp_path: Path) -> None:
    """Comments and blank lines don't count, and a repeated address is fetched once."""
    file = tmp_path / "addresses.txt"
    file.write_text(f"# a list\n\n{site.address('/a')}  # the first\n{site.address('/b#part')}\n")
    rows = records("--file", str(file), site.address("/a"))
    assert set(rows) == {site.address("/a"), site.address("/b#part")}
    assert site.asked == {"/a": 1, "/b": 1}


def test_an_empty_list_is_scraped_at_once(tmp_path: Path) -> None:
    """A file without addresses is not the same as no address."""
    file = tmp_path / "nothing.txt"
    file.write_text("# nothing yet\n")
    ran = scrape("--file", str(file))
    assert (ran.status, ran.output) == (0, "")
    assert "0 of 0 addresses" in ran.errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["--file", "/nonexistent/addresses"],
        ["--output", "/nonexistent/report", "http://127.0.0.1:1/"],
        ["--processes", "0"],
        ["--timeout", "0"],
        ["--timeout", "soon"],
        ["--retries", "-1"],
    ],
)
def test_bad_usage_ends_with_two_and_a_reason(arguments: list[str]) -> None:
    """Nothing is fetched and one line says why."""
    ran = scrape(*arguments)
    assert ran.status == 2
    assert ran.errors.strip()


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--timeout", "soon", "must be a number above 0 and at most 3600, not 'soon'"),
        ("--retries", "x", "must be a number, at least 0, not 'x'"),
        ("--processes", "5000", "must be a number from 1 to 1000, not '5000'"),
        ("--file", "/nonexistent/list", "/nonexistent/list: No such file or directory"),
        ("--output", "/nonexistent/report", "/nonexistent/report: No such file or directory"),
    ],
)
def test_an_error_names_its_option(option: str, value: str, reason: str) -> None:
    """The last line says which option is wrong, and why."""
    ran = scrape(option, value, "http://127.0.0.1:1/")
    assert ran.errors.splitlines()[-1] == f"scrape: error: argument {option}: {reason}"


def test_the_summary_counts_the_processes_that_ran(site: Site) -> None:
    """No more than there are addresses to ask for."""
    ran = scrape("--processes", "900", site.address("/a"), site.address("/b"), "nonsense")
    assert "with 2 processes" in ran.errors


def test_nothing_asked_for_has_no_rate() -> None:
    """Malformed addresses alone cost no request."""
    assert scrape("nonsense").errors.splitlines() == ["1 of 1 addresses: 1 malformed"]


@pytest.mark.parametrize("format", ["text", "csv", "json"])
def test_no_report_shows_a_password(site: Site, format: str) -> None:
    """It is used, and shown as `***`."""
    good = site.address("/a").replace("//", "//user:se@cret@")
    ran = scrape("--format", format, good, "user:se@cret@no-scheme.example")
    assert "cret" not in ran.output + ran.errors
    assert good.replace("se@cret", "***") in ran.output and "user:***@no-scheme.example" in ran.output


@pytest.mark.parametrize("start_method", START_METHODS)
def test_ctrl_c_on_the_local_site_prints_no_traceback(start_method: str) -> None:
    """Not from the site's own process either, in the middle of its pages."""
    scraper = subprocess.Popen(
        program("scrape.py", "--start-method", start_method, "--processes", "8"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert scraper.stdout is not None
    for _ in range(20):
        scraper.stdout.readline()
    os.killpg(scraper.pid, signal.SIGINT)
    _, errors = scraper.communicate(timeout=LIMIT)
    assert scraper.returncode == 130
    assert "Traceback" not in errors and "Exception occurred" not in errors, errors


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_worker_that_dies_costs_one_line(site: Site, start_method: str) -> None:
    """SIGKILL in the middle of a page: its address is reported, all others are fetched."""
    others = [site.address(f"/page/{page}") for page in range(12)]
    deadly = site.address("/deadly")
    ran = scrape("--start-method", start_method, "--processes", "2", *others[:4], deadly, *others[4:])
    lines = ran.output.splitlines()
    assert {line for line in lines if "200" in line} == {f"URL: {each}, Status Code: 200" for each in others}
    [told] = [line for line in lines if "200" not in line]
    assert told.startswith(f"URL: {deadly}, Failed: worker died (")
    assert "SIGKILL" in told
    assert ran.status == 1


@pytest.mark.parametrize("start_method", START_METHODS)
def test_interrupt_ends_with_what_there_is(site: Site, start_method: str) -> None:
    """Ctrl-C reaches the whole group: a partial summary, no traceback, nobody left behind."""
    done = [site.address(f"/page/{page}") for page in range(3)]
    scraper = subprocess.Popen(
        program(
            "scrape.py", "--start-method", start_method, "--timeout", "600", *done, site.address("/hang")
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )
    try:
        assert scraper.stdout is not None
        lines = [scraper.stdout.readline() for _ in done]
        assert site.hanging.wait(LIMIT)
        os.killpg(scraper.pid, signal.SIGINT)
        rest, errors = scraper.communicate(timeout=LIMIT)
    except BaseException:
        os.killpg(scraper.pid, signal.SIGABRT)
        print(scraper.communicate(timeout=LIMIT))
        raise
    assert sorted(lines) == sorted(f"URL: {each}, Status Code: 200\n" for each in done)
    assert rest == ""
    assert scraper.returncode == 130
    assert "Traceback" not in errors
    assert "3 of 4 addresses: 3 ok" in errors
    assert "interrupted: 1 addresses have no outcome" in errors


def test_the_bar_is_for_a_terminal_only(site: Site) -> None:
    """A terminal shows how far the run is; a pipe gets plain lines."""
    command = program("scrape.py", site.address("/a"), site.address("/b"))
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as scraper:
            os.close(theirs)
            shown = "".join(iter(lambda: read_terminal(ours), ""))
        assert scraper.returncode == 0
    finally:
        os.close(ours)
    assert re.search(r"\[[#-]+\] [012]/2", shown)
    assert "\r" not in run(command).errors


def read_terminal(terminal: int) -> str:
    """Some of what was written to the terminal, or nothing when all its writers are gone."""
    try:
        return os.read(terminal, 4096).decode()
    except OSError:
        return ""


def test_a_reader_that_goes_away_ends_it_quietly(site: Site) -> None:
    """As in `scrape ... | head -1`."""
    addresses = [site.address(f"/page/{page}") for page in range(30)]
    with subprocess.Popen(
        program("scrape.py", *addresses), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as scraper:
        assert scraper.stdout is not None and scraper.stderr is not None
        scraper.stdout.readline()
        scraper.stdout.close()
        errors = scraper.stderr.read()
    assert errors == ""
    assert scraper.returncode == 141


def test_without_addresses_a_local_site_is_scraped() -> None:
    """200 pages, by four processes and by one, and how much faster the four were."""
    ran = scrape()
    kinds = Counter(
        re.sub(r".*(Status Code: \d+|Failed: [a-z ]+\b).*", r"\1", line) for line in ran.output.splitlines()
    )
    assert kinds == {"Status Code: 200": 189, "Status Code: 404": 10, "Failed: timed out": 1}
    assert ran.errors.count("200 of 200 addresses: 189 ok, 10 not found, 1 timed out") == 2
    assert re.search(r"4 processes were \d+\.\d times as fast as 1\.", ran.errors)
    assert ran.status == 0


def test_it_runs_as_a_module() -> None:
    """`python -m scraper`, from the folder of examples."""
    command = [sys.executable, "-m", "scraper", "not/an/address"]
    ran = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert ran.returncode == 1
    assert ran.stdout.startswith("URL: not/an/address, Failed: malformed")


@pytest.mark.parametrize(
    ("address", "trouble"),
    [
        ("http://127.0.0.1/", None),
        ("https://example.org:8443/path?query#part", None),
        ("example.org", "no scheme"),
        ("ftp://example.org/", "neither http nor https"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://example.org:port/", "Port could not be cast"),
        ("http://example.org:99999/", "Port out of range"),
        ("http://example.org:0/", "port 0"),
        ("http://[::1/", "Invalid IPv6"),
        ("http://exam ple.org/", "space"),
        ("http://example.org/\x07", "control character"),
        ("", "no scheme"),
    ],
)
def test_a_malformed_address_is_told_before_it_is_asked_for(address: str, trouble: str | None) -> None:
    """The reason names what to change."""
    told = problem(address)
    assert (told is None) if trouble is None else (told is not None and trouble in told)


def test_lists_of_addresses_may_hold_comments() -> None:
    """A # starts a comment only at the start of a line or after a space."""
    lines = ["# all\n", "\n", " http://a/#part # why\n", "http://b/\n", "http://a/#part\n", "   # end"]
    assert without_repeats(read_addresses(lines)) == ["http://a/#part", "http://b/"]
