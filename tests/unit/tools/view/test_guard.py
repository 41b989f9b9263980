"""Who is answered, and with what headers."""

import pytest
from made_view import BASE, PAGE, PORT, SLIDE, TOKEN
from starlette.testclient import TestClient

OUTSIDE = "http://127.0.0.1:8484"


def test_the_page_and_its_files(client: TestClient) -> None:
    page = client.get("")
    assert page.content == PAGE["index.html"]
    assert page.headers["content-type"].startswith("text/html")
    script = client.get("page/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert client.get("page/other.js").status_code == 404


def test_every_answer_has_the_policy(client: TestClient) -> None:
    paths = ["", "data/slides.json", f"slides/{SLIDE}/tiles/0/0_0.jpg", "nothing", "/"]
    for found in [client.get(path) for path in paths]:
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy
        assert "http" not in policy
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        assert found.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in found.headers


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/data/slides.json",
        "/a-toke/",
        "/b-token/",
        "/A-TOKEN/",
        "//a-token/",
        "/\u00e9/",
    ],
)
def test_without_the_token(client: TestClient, path: str) -> None:
    found = client.get(f"{BASE}{path}")
    assert found.status_code == 403
    assert "wsi-ncmi view" in found.json()["error"]


def test_a_browser_without_the_token_gets_a_page(client: TestClient) -> None:
    headers = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    found = client.get(f"{BASE}/", headers=headers)
    assert (found.status_code, found.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "<p>wsi-ncmi view: open the address that `wsi-ncmi view` has printed" in found.text
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert TOKEN not in found.text


def test_the_cookie_leads_to_the_page(client: TestClient) -> None:
    """A link of the report knows the port alone; the browser knows the token from before."""
    cookie = client.get("").headers["set-cookie"]
    assert cookie == f"wsi-ncmi-view-{PORT}={TOKEN}; Path=/; HttpOnly; SameSite=Lax"
    found = client.get(f"{BASE}/")
    assert (found.status_code, found.headers["location"]) == (303, f"/{TOKEN}/")


def test_an_address_without_its_last_slash(client: TestClient) -> None:
    found = client.get(f"{BASE}/{TOKEN}")
    assert (found.status_code, found.headers["location"]) == (303, f"/{TOKEN}/")


def test_the_cookie_alone_opens_nothing_else(client: TestClient) -> None:
    client.get("")
    assert client.get(f"{BASE}/data/slides.json").status_code == 403
    client.cookies.clear()
    for value in ("wrong", "", "a; b", '"'):
        headers = {"cookie": f"wsi-ncmi-view-{PORT}={value}"}
        assert client.get(f"{BASE}/", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8484", "127.0.0.1", "", "[::1]:8484", "127.0.0.1:80"]
)
def test_a_name_of_another_host(client: TestClient, host: str) -> None:
    """DNS rebinding: another page's name points at the loopback, its Host is its own."""
    found = client.get("data/slides.json", headers={"host": host})
    assert found.status_code == 403
    assert "loopback" in found.json()["error"]


def test_localhost_is_this_machine(client: TestClient) -> None:
    assert client.get("", headers={"host": "localhost:8484"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    found = client.request(method, "data/slides.json")
    assert (found.status_code, found.headers["allow"]) == (405, "GET, HEAD")


def test_head(client: TestClient) -> None:
    for path in ("", "data/slides.json", f"slides/{SLIDE}/tiles/0/0_0.jpg"):
        found, whole = client.head(path), client.get(path)
        assert found.status_code == 200
        assert found.headers["content-length"] == str(len(whole.content))


@pytest.mark.parametrize(
    "path",
    [
        "slides/../../../etc/passwd",
        "slides/..%2f..%2f..%2fetc%2fpasswd/info.json",
        "slides/%2e%2e%2f%2e%2e/info.json",
        "slides/%252e%252e%252fetc/info.json",
        "slides/..%5c..%5cetc/info.json",
        "slides//info.json",
        "slides/%00/info.json",
        "slides/slide_00%00.tif/info.json",
        "slides/slide_00/../slide_01/x",
        "slides/.../info.json",
        "slides/slides.tsv/info.json",
        "page/../app.py",
        "page/..%2fapp.py",
        "page/%2e%2e%2fapp.py",
        "page//etc/passwd",
        "data/predictions/..%2f..%2fstage/abmil/ncmi.json",
        "data/predictions/../../x/abmil/ncmi.json",
        "slides/slide_00/attention/..%2f..%2fstage/abmil/ncmi.safetensors",
        "slides/slide_00/attention/stage/..%2fabmil/ncmi.safetensors",
        f"slides/{'a' * 5000}/info.json",
    ],
)
def test_no_path_reaches_the_disk(client: TestClient, path: str) -> None:
    found = client.get(path)
    assert found.status_code in (403, 404)
    assert found.headers["content-type"] == "application/json"
    assert len(found.content) < 300
    assert b"root:" not in found.content


@pytest.mark.parametrize(
    "place",
    [
        "0/-1_0", "0/0_-1", "-1/0_0", "99/0_0", "999999999999/0_0", "0/99_0", "0/0_99",
        "0/9999999999999999999999_0", "0/a_b", "0/0_0_0", "0/0.5_0", "0/1e3_0", "0/_", "a/0_0",
        "0/0x1_0", "0/%30_0 ", "0/\u0661_0", "/0_0", "0/0_0.png", "nan/0_0", "0/+1_0",
    ],
)  # fmt: skip
def test_no_such_tile(client: TestClient, place: str) -> None:
    assert client.get(f"slides/{SLIDE}/info.json").status_code == 200
    found = client.get(f"slides/{SLIDE}/tiles/{place}.jpg")
    assert found.status_code == 404
    assert found.headers["content-type"] == "application/json"


@pytest.mark.parametrize("index", ["-1", "100000", "a", "1.5", "9" * 30])
def test_no_such_crop(client: TestClient, index: str) -> None:
    assert client.get(f"slides/{SLIDE}/crops/{index}.jpg").status_code == 404
