import io
import math
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import grpc
import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lib.database.opening import open_database
from lib.embedder.space import load_semantic_space
from lib.search.engine import Request, Searcher
from lib.service import models
from lib.text.query import embed_query
from tests.listening import NO_GRPC, codes_without_token, listening_to_others
from tests.serving_database import NAMES, write_version
from tests.serving_process import TOKEN, RunningService, wait_for

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
NAME = "orange/ø–é 100%.jpg"


@pytest.fixture(scope="module")
def http(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def error(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert response.status_code == status, response.text
    detail = response.json()["error"]
    assert detail["code"] == code
    assert "/tmp" not in response.text  # nothing of the file system
    return detail


def test_answers_are_those_of_an_exact_search(service: RunningService, http: httpx.Client) -> None:
    searcher = Searcher.load(str(service.db))
    database = open_database(str(service.db))
    for text in ("orange ball", "box -red", 'green^2 "on a table"'):
        answer = http.get("/search", params={"q": text, "k": 5}).json()
        query = embed_query(searcher.space.text, text).embedding
        scores = database.embeddings @ query
        best = np.argsort(-scores, kind="stable")[:5]
        hits = answer["results"][0]["hits"]
        assert [hit["image_id"] for hit in hits] == [database.image_ids[r] for r in best]
        assert [hit["score"] for hit in hits] == pytest.approx(scores[best].tolist(), abs=1e-5)
        assert answer["model"] == searcher.model
        assert answer["database_version"] == 1


def test_a_batch_gives_every_query_its_answer_or_its_error(http: httpx.Client) -> None:
    texts = ["orange ball", 'say "cheese', "qxzvw", "red qxzvw", "bycicle^2 ball", "giraffe"]
    results = http.post("/search", json={"queries": texts, "k": 2}).json()["results"]
    assert [result["query"] for result in results] == texts
    assert [len(result["hits"]) for result in results] == [2, 0, 0, 2, 2, 2]
    assert results[1]["error"]["code"] == "query_syntax"
    assert results[1]["error"]["position"] == 4
    assert results[2]["error"]["code"] == "query_unusable"
    assert results[3]["unknown_words"] == ["qxzvw"]
    assert results[0]["hits"][0]["captions"]
    assert [result["suggestion"] for result in results[3:]] == [None, "bicycle^2 ball", None]
    assert results[5]["unseen_words"] == ["giraffe"]


def test_a_query_that_fails_gets_a_suggestion_too(http: httpx.Client) -> None:
    detail = error(http.get("/search", params={"q": "elephhant"}), 400, "query_unusable")
    assert detail["suggestion"] == "elephant"


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"q": 'a 5" nail'}, 400, "query_syntax"),
        ({"q": "dog^"}, 400, "query_syntax"),
        ({"q": "qxzvw"}, 400, "query_unusable"),
        ({"q": "🦄🦄"}, 400, "query_unusable"),
        ({"q": "dog -dog"}, 400, "query_unusable"),
        ({}, 400, "query_unusable"),
        ({"q": "dog", "k": 0}, 422, "invalid_request"),
        ({"q": "dog", "k": models.MAX_K + 1}, 422, "invalid_request"),
        ({"q": "dog", "k": "many"}, 422, "invalid_request"),
        ({"q": "dog " * 600}, 422, "invalid_request"),
        ({"q": "dog", "k": 50, "explain": "true"}, 422, "bad_input"),
        ({"q": "dog", "text_weight": "nan", "like": NAME}, 422, "invalid_request"),
        ({"q": "dog", "orientation": "landscape"}, 422, "bad_input"),  # of a POST's filter
        ({"q": "dog", "K": 3}, 422, "bad_input"),
        ({"q": ["dog", "cat"]}, 422, "bad_input"),
        ({"like": "no such image"}, 404, "unknown_image"),
        ({"like": "../../etc/passwd"}, 404, "unknown_image"),
    ],
)
def test_bad_searches_say_what_is_wrong(
    http: httpx.Client, parameters: dict[str, str | int | list[str]], status: int, code: str
) -> None:
    error(http.get("/search", params=parameters), status, code)


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE images; --dog",
        "<script>alert(1)</script>",
        "сонце 海 dog",
        "%00 dog \x00",
        "{{7*7}}",
    ],
)
def test_any_text_is_only_text(http: httpx.Client, text: str) -> None:
    response = http.get("/search", params={"q": text})
    assert response.status_code in (200, 400)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "body",
    [
        b'{"queries": ["dog"], "k": NaN}',
        b'{"queries": ["dog"], "k": 1e999}',
        b'{"queries": ["\\ud800"]}',
        b'{"queries": "dog"}',
        b'{"queries": []}',
        b'{"queries": ["dog"], "kk": 3}',
        b'{"queries": [null]}',
        b'{"queries": ["dog"], "filter": {"min_width": -1}}',
        b'{"queries": ["dog"]',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"queries": ["' + b"dog " * 10_000 + b'"]}',
        b'{"queries": [' + b'"dog",' * 100 + b'"dog"]}',
    ],
)
def test_bad_bodies_are_refused(http: httpx.Client, body: bytes) -> None:
    response = http.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.json()["error"]["message"]


@pytest.mark.reports
def test_what_curl_sends_without_a_header_is_explained(http: httpx.Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = http.post("/search", content=b'{"queries": ["dog"]}', headers=form)
    detail = error(refused, 422, "invalid_request")
    assert "Content-Type: application/json" in str(detail["message"])


@pytest.mark.parametrize(
    ("method", "path", "taken"),
    [
        ("OPTIONS", "/search", "GET, HEAD, POST"),
        ("PUT", "/search/image", "POST"),
        ("DELETE", "/images/a/b.jpg", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_take(
    http: httpx.Client, method: str, path: str, taken: str
) -> None:
    refused = http.request(method, path)
    detail = error(refused, 405, "method_not_allowed")
    assert detail["message"] == f"{path} takes {taken}, not {method}"
    assert refused.headers["allow"] == taken


def test_a_path_that_is_none(http: httpx.Client) -> None:
    assert "/docs" in str(error(http.get("/serach?q=dog"), 404, "no_such_path")["message"])


def test_a_lone_bad_query_of_a_batch_is_an_error(http: httpx.Client) -> None:
    detail = error(http.post("/search", json={"queries": ['dog "cat']}), 400, "query_syntax")
    assert detail["position"] == 4


def test_filters(http: httpx.Client) -> None:
    def ids_of(**conditions: object) -> set[str]:
        body = {"queries": ["ball"], "k": 100, "filter": conditions}
        hits = http.post("/search", json=body).json()["results"][0]["hits"]
        return {hit["image_id"] for hit in hits}

    assert ids_of(path_prefix="orange/") == {"orange/1 ball.jpg", NAME}
    assert ids_of(image_ids=[NAME, "no such"]) == {NAME}
    assert ids_of(image_ids=[]) == set()
    everything = ids_of()
    tall, wide = ids_of(orientation="portrait"), ids_of(orientation="landscape")
    assert tall | wide == everything
    assert not tall & wide
    assert ids_of(min_width=300) == wide == ids_of(min_width=300, min_height=100)
    assert ids_of(distinct=True) == everything - {"23.jpg"}
    assert ids_of(distinct=True, image_ids=["23.jpg"]) == {"23.jpg"}


def test_like_an_image_without_copies_of_it(http: httpx.Client) -> None:
    for ask in (
        lambda distinct: http.get("/search", params={"like": "22.jpg", "k": 2, **distinct}),
        lambda distinct: http.post(
            "/search/image",
            params={"k": 2, **distinct},
            content=http.get("/images/22.jpg").content,
        ),
    ):
        both, one = (
            [hit["image_id"] for hit in ask(distinct).json()["results"][0]["hits"]]
            for distinct in ({}, {"distinct": True})
        )
        assert both == ["22.jpg", "23.jpg"]
        assert one[0] == "22.jpg"
        assert one[1] != "23.jpg"


def test_images_by_any_name_and_nothing_else(service: RunningService, http: httpx.Client) -> None:
    for name in (*NAMES, "7.jpg"):
        hits = http.get("/search", params={"like": name, "k": 1}).json()["results"][0]["hits"]
        assert hits[0]["image_id"] == name
        assert hits[0]["score"] == pytest.approx(1, abs=1e-5)
        original = http.get(hits[0]["uri"])
        assert original.content == (service.directory / "images" / name).read_bytes()
        assert original.headers["content-type"] == "image/jpeg"
        small = http.get(hits[0]["thumbnail"])
        with Image.open(io.BytesIO(small.content)) as image:
            assert (image.width, image.height) == (hits[0]["width"], hits[0]["height"])
    for path in ("../captions.csv", "/etc/passwd", quote("../captions.csv", safe=""), "x" * 5000):
        assert http.get(f"/images/{path}").status_code == 404


def test_an_image_whose_file_is_gone(service: RunningService, http: httpx.Client) -> None:
    path = service.directory / "images" / "9.jpg"
    content = path.read_bytes()
    try:
        path.unlink()
        error(http.get("/images/9.jpg"), 404, "image_unreadable")
        path.write_bytes(b"not an image")
        error(http.get("/images/9.jpg"), 404, "image_unreadable")
        answer = http.get("/explain", params={"q": "ball", "image_id": "9.jpg"}).json()
        assert answer["explanation"]["heat_map"] is None
        assert "image" in answer["explanation"]["heat_map_problem"]
    finally:
        path.write_bytes(content)


def test_explanations_add_up_to_the_score(http: httpx.Client) -> None:
    parameters = {"q": "orange^2 ball -box", "k": "3", "explain": "true"}
    for hit in http.get("/search", params=parameters).json()["results"][0]["hits"]:
        explanation = hit["explanation"]
        shares = [word["share"] for word in explanation["words"]]
        assert [word["word"] for word in explanation["words"]] == ["orange", "ball", "box"]
        assert math.fsum(shares) == pytest.approx(hit["score"], abs=1e-4)
        heat = explanation["heat_map"]
        cells = np.array(heat["cells"])
        assert heat["box"] == {"left": 0, "top": 0, "right": 1, "bottom": 1}
        assert cells.shape == (7, 11)  # of 3:2 pictures
        assert cells.sum() + heat["rounding"] == pytest.approx(hit["score"], abs=1e-4)
        assert abs(heat["rounding"]) < 1e-4  # these descriptors were kept in full precision
    answer = http.get(
        "/explain", params={"q": "orange ball", "like": NAME, "image_id": "7.jpg"}
    ).json()
    words = answer["explanation"]["words"]
    assert [word["word"] for word in words] == ["orange", "ball", "the image"]
    assert math.fsum(word["share"] for word in words) == pytest.approx(answer["score"], abs=1e-4)
    by_word = np.array(answer["word_cells"]).sum(axis=(1, 2))
    np.testing.assert_allclose(by_word, [word["share"] for word in words], atol=1e-4)


def test_search_by_an_uploaded_image(service: RunningService, http: httpx.Client) -> None:
    content = (service.directory / "images" / NAME).read_bytes()
    alone = http.post("/search/image", content=content, params={"k": 3}).json()
    assert alone["results"][0]["hits"][0]["image_id"] == NAME
    searcher = Searcher.load(str(service.db))
    _, image = searcher.collection.look_up(NAME)
    both = http.post("/search/image", content=content, params={"q": "red", "text_weight": 0.3})
    expected = searcher.embed(Request("red", image=image, text_weight=0.3)).embedding
    hits = both.json()["results"][0]["hits"]
    _, best = searcher.collection.look_up(hits[0]["image_id"])
    assert hits[0]["score"] == pytest.approx(float(best @ expected), abs=1e-3)
    error(http.post("/search/image", content=b"hello"), 422, "bad_input")
    error(http.post("/search/image", content=b""), 422, "bad_input")
    form = error(http.post("/search/image", files={"file": content}), 422, "bad_input")
    assert "--data-binary" in str(form["message"])
    large = b"\0" * (models.MAX_UPLOAD_BYTES + 1)
    error(http.post("/search/image", content=large), 413, "too_large")
    chunks = (large[: 1 << 20] for _ in range(25))
    error(http.post("/search/image", content=chunks), 413, "too_large")
    error(http.post("/search", content=large), 413, "too_large")


def test_nobody_enters_without_the_token(service: RunningService) -> None:
    with httpx.Client(base_url=service.address) as stranger:
        for path in ("/search?q=dog", "/info", "/metrics", "/images/7.jpg", "/openapi.json"):
            assert error(stranger.get(path), 401, "unauthorized")
        wrong = {"Authorization": "Bearer wrong"}
        assert stranger.get("/info", headers=wrong).status_code == 401
        assert stranger.get("/health").json() == {"status": "ready"}
        assert stranger.get("/").status_code == 200
        cookie = {"Cookie": f"image_search_token={quote(TOKEN)}"}
        assert stranger.get("/info", headers=cookie).status_code == 200


def test_the_page_keeps_the_token_where_no_script_reads_it(service: RunningService) -> None:
    with httpx.Client(base_url=service.address) as browser:
        answer = browser.post("/session", json={"token": f"{TOKEN}\n"})
        assert answer.status_code == 204
        assert {"httponly", "samesite=strict"} <= {
            part.strip().lower() for part in answer.headers["set-cookie"].split(";")
        }
        assert browser.get("/info").status_code == 200
        elsewhere = {"Origin": "http://evil.example"}
        assert error(
            browser.post("/search", json={"queries": ["dog"]}, headers=elsewhere), 403, "forbidden"
        )


def test_it_listens_on_this_machine_only(service: RunningService) -> None:
    port = int(service.address.rsplit(":", 1)[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        outer = probe.getsockname()[0]
    if outer.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError), socket.create_connection((outer, port), timeout=2):
        pass


@pytest.mark.reports
def test_what_listens_to_other_machines_asks_for_the_token(service: RunningService) -> None:
    places = listening_to_others(service.process)
    assert places
    codes = [code for place in places for code in codes_without_token(*place)]
    heard = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
    assert set(codes) <= heard | NO_GRPC
    assert codes.count(grpc.StatusCode.UNAUTHENTICATED) >= 4


@pytest.mark.reports
def test_half_sent_requests_silence_nobody(service: RunningService) -> None:
    address = service.address.removeprefix("http://").split(":")
    held = []
    try:
        for _ in range(4_200):
            client = socket.create_connection((address[0], int(address[1])), timeout=10)
            client.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
            held.append(client)
        with httpx.Client(base_url=service.address, timeout=5) as other:
            assert other.get("/health").status_code == 200
        held[0].settimeout(30)
        assert b" 408 " in held[0].recv(1_000)  # and they are not held for long
    finally:
        for client in held:
            client.close()


def test_the_api_description_needs_no_other_host(http: httpx.Client) -> None:
    page = http.get("/docs").text
    assert "SwaggerUIBundle" in page
    assert "https://" not in page
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(files) >= 3
    for file in files:
        assert http.get(file).status_code == 200


def test_info_says_what_is_served(service: RunningService, http: httpx.Client) -> None:
    info = http.get("/info").json()
    space = load_semantic_space(str(service.db))
    assert (info["images"], info["captions"]) == (24, 23)
    assert (info["dimension"], info["backbone"]) == (50, "resnet18")
    assert info["embedder_digest"] == space.digest
    assert info["vocabulary_size"] == len(space.text.vectors)
    assert info["reload_problem"] is None


def test_metrics_count_what_was_asked(http: httpx.Client) -> None:
    http.get("/search", params={"q": "red qxzvw"})

    def text() -> str:
        return http.get("/metrics").text

    wait_for(lambda: 'route="/search",status="200"' in text() or "unknown_word" in text(), 90)
    for name in ("requests_total", "request_seconds_bucket", "batch_size_bucket"):
        assert f"ray_image_search_{name}" in text()
    assert "ray_image_search_unknown_word_queries_total" in text()


def test_beyond_its_limit_it_sheds_load_and_recovers(http: httpx.Client) -> None:
    body = {"queries": ["dog ball " * 200] * 100, "k": 1}
    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(lambda _: http.post("/search", json=body), range(64)))
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) == {200, 503}
    shed = next(response for response in responses if response.status_code == 503)
    error(shed, 503, "overloaded")
    assert int(shed.headers["retry-after"]) >= 1
    assert http.get("/search", params={"q": "dog"}).status_code == 200


def test_a_new_version_is_taken_up_under_load_and_a_wrong_one_refused(
    service: RunningService, http: httpx.Client
) -> None:
    names = list(open_database(str(service.db)).image_ids)
    stop = threading.Event()
    seen: list[tuple[int, int]] = []

    def ask() -> None:
        while not stop.is_set():
            response = http.get("/search", params={"q": "ball", "k": 200})
            answer = response.json()
            seen.append((response.status_code, answer["database_version"]))

    def version() -> int:
        return int(http.get("/health").json()["database_version"])

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            write_version(service.directory, service.db, names[:-1], version=2)
            wait_for(lambda: version() == 2, 90)
            assert http.get("/info").json()["images"] == len(names) - 1
            write_version(service.directory, service.db, names, version=3, digest="another")
            wait_for(lambda: http.get("/info").json()["reload_problem"], 90)
            assert http.get("/info").json()["reload_problem"] == "MismatchError"
            assert version() == 2
            write_version(service.directory, service.db, names, version=4)
            wait_for(lambda: version() == 4, 90)
            assert http.get("/info").json()["reload_problem"] is None
        finally:
            stop.set()
        for task in asking:
            task.result()
    assert {status for status, _ in seen} == {200}
    assert {number for _, number in seen} == {1, 2, 4}


@pytest.mark.long
@pytest.mark.reports
def test_a_search_process_that_dies_comes_back_with_the_next_version(
    service: RunningService, http: httpx.Client
) -> None:
    """The newest version was refused, and the files of the one served are gone.

    With its files in place it comes back by itself: tests.harness.service_chaos.
    """
    names = open_database(str(service.db)).image_ids
    version = int(http.get("/health").json()["database_version"])
    write_version(service.directory, service.db, names, version=version + 1, digest="another")
    wait_for(lambda: http.get("/info").json()["reload_problem"], 90)
    for file in (service.db / "embeddings").glob("*.parquet"):
        file.unlink()
    service.part("Replica:image-search:Shard0").kill()
    wait_for(lambda: http.get("/health").status_code == 503, 20)  # it says so
    write_version(service.directory, service.db, names, version=version + 2)
    wait_for(lambda: http.get("/health").status_code == 200, 240)
    hits = http.get("/search", params={"q": "ball"}).json()
    assert hits["database_version"] == version + 2


@pytest.mark.parametrize("examples", [8, pytest.param(1_000, marks=pytest.mark.chaos)])
def test_it_keeps_its_own_contract(service: RunningService, examples: int) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    described = schemathesis.openapi.from_url(f"{service.address}/openapi.json", headers=headers)
    operations = [
        operation.ok() for operation in described.get_all_operations() if isinstance(operation, Ok)
    ]
    assert len(operations) >= 9
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        def check(case: schemathesis.Case) -> None:
            response = case.call(headers=headers)
            case.validate_response(response, checks=CHECKS)

        check()
