"""The forms of `redis.url`: what each means, and what is refused with its fix."""

import pytest
from pydantic import ValidationError

from streams.config.redis_address import RedisAddress, parse_redis_address
from streams.config.settings import Redis

FORMS = {
    "redis://cache.example:6380/2": RedisAddress(
        "server", False, (("cache.example", 6380),), database=2
    ),
    "rediss://me:hunter2@[::1]": RedisAddress("server", True, (("::1", 6379),)),
    "unix:///run/redis.sock": RedisAddress("server", False, (), socket="/run/redis.sock"),
    "redis+sentinel://one:26380,two/mymaster": RedisAddress(
        "sentinel", False, (("one", 26380), ("two", 26379)), "mymaster"
    ),
    "rediss+sentinel://me:p%40ss@[::1]:5,two/my-master/3": RedisAddress(
        *("sentinel", True, (("::1", 5), ("two", 26379)), "my-master", 3),
        username="me",
        password="p@ss",
    ),
    "redis+cluster://one,two:7000/0": RedisAddress(
        "cluster", False, (("one", 6379), ("two", 7000))
    ),
    "rediss+cluster://:hunter2@one": RedisAddress(
        "cluster", True, (("one", 6379),), password="hunter2"
    ),
}


@pytest.mark.parametrize("url", FORMS)
def test_each_form_names_its_servers(url: str) -> None:
    assert parse_redis_address(url) == FORMS[url]
    shown = str(Redis(url=url).address)
    assert "hunter2" not in shown
    assert all(host in shown for host, _ in FORMS[url].nodes)


WRONG = {
    "redis:cache": "not an address of Redis",
    "http://cache:6379": "not an address of Redis",
    "redis+sentinels://one/mymaster": "not an address of Redis",
    "unix://": "the path of the socket is missing",
    "redis://cache:x/0": "not an address",
    "redis://cache/first": "the number of the database is no number",
    "redis+sentinel://hunter2:x/mymaster": "one of its hosts is no `host:port`",
    "redis+sentinel://one,,two/mymaster": "one of its hosts is no `host:port`",
    "redis+sentinel://one:70000/mymaster": "one of its hosts is no `host:port`",
    "redis+sentinel://one:26379": "the name of the primary is missing",
    "redis+sentinel://one/mymaster/first": "the number of the database is no number",
    "redis+sentinel://hunter2@one/mymaster": "its login has no password",
    "redis+cluster://one/1": "a cluster has database 0 only",
    "redis+cluster://one?hunter2=1": "it takes no options",
    "redis+cluster://[one": "not an address",
}


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_address_is_one_line_with_its_fix_and_without_itself(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Redis(url=url)
    (error,) = caught.value.errors()
    assert WRONG[url] in error["msg"]
    assert "write redis" in error["msg"]
    assert "\n" not in error["msg"]
    assert "hunter2" not in error["msg"]


def test_a_login_is_masked_in_every_form() -> None:
    for url in FORMS:
        shown = Redis(url=url).model_dump(mode="json")["url"]
        assert "hunter2" not in shown
        assert "p%40ss" not in shown
        assert ("(credentials)@" in shown) == ("@" in url)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"sentinel_password": "x"}, "the url is not redis+sentinel://"),
        (
            {"url": "redis+sentinel://one/m", "sentinel_username": "me"},
            "sentinel_username needs sentinel_password",
        ),
        (
            {
                "url": "redis+sentinel://one/m",
                "sentinel_password": "x",
                "sentinel_password_file": "y",
            },
            "give sentinel_password or sentinel_password_file, not both",
        ),
        (
            {"url": "redis+cluster://a:b@one", "username": "me", "password": "x"},
            "the url has a login and so have username or password",
        ),
        ({"url": "redis+cluster://one", "ssl_ca_file": "x"}, "set a rediss:// url"),
    ],
)
def test_logins_that_contradict_each_other_are_refused(
    settings: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Redis.model_validate(settings)
    assert problem in str(caught.value)
