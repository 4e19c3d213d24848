from __future__ import annotations

import json
from pathlib import Path

import pytest

from skerry_registry.cli.check import document
from skerry_registry.contradictions import contradictions
from skerry_registry.identities.issuers import Issuer
from skerry_registry.settings import Settings, SettingsInvalid, described, load

ROOT = Path(__file__).parents[1]


def written(folder: Path, text: str) -> Path:
    file = folder / "skerry.toml"
    file.write_text(text)
    return file


def refused(config: Path | None, environ: dict[str, str], given: dict[str, object] | None = None) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        load(config, environ, given)
    return caught.value.text


def test_without_anything_the_defaults_are_in_force() -> None:
    assert load(None, {}) == Settings()


def test_a_table_in_the_file_is_the_first_part_of_a_name(tmp_path: Path) -> None:
    file = written(tmp_path, 'thing_max_bytes = 7\n[http]\nport = 9000\n[auth]\nbasic_prefix = "x:"\n')
    settings = load(file, {})
    assert (settings.thing_max_bytes, settings.http_port, settings.auth_basic_prefix) == (7, 9000, "x:")


def test_a_variable_overrides_the_file_and_an_option_overrides_both(tmp_path: Path) -> None:
    file = written(tmp_path, "[http]\nport = 1\n[mqtt]\nport = 1\n")
    settings = load(file, {"SKERRY_HTTP_PORT": "2", "SKERRY_MQTT_PORT": "2"}, {"mqtt_port": 3, "data_dir": None})
    assert (settings.http_port, settings.mqtt_port, settings.data_dir) == (2, 3, "data")


def test_a_misspelt_name_in_the_file_is_refused_with_its_line_and_the_nearest_right_one(tmp_path: Path) -> None:
    file = written(tmp_path, "\n[http]\nprot = 9000\n[htpp]\nport = 1\n")
    text = refused(file, {})
    assert f"{file}:3: [http] prot is no setting; the nearest is [http] port" in text
    assert f"{file}:5: [htpp] port is no setting; the nearest is [http] port" in text


def test_a_misspelt_variable_is_refused_with_the_nearest_right_one() -> None:
    text = refused(None, {"SKERRY_HTTP_PROT": "9000", "SKERRY_INFLUX_TOKNE_FILE": "x"})
    assert "SKERRY_HTTP_PROT is no setting; the nearest is SKERRY_HTTP_PORT" in text
    assert "the nearest is SKERRY_INFLUX_TOKEN_FILE" in text


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"SKERRY_HTTP_PORT": "eighty"}, 'SKERRY_HTTP_PORT: expected integer ≥ 0 ≤ 65535, not "eighty"'),
        ({"SKERRY_HTTP_PORT": "99999"}, "≤ 65535"),
        ({"SKERRY_THING_MAX_BYTES": "0"}, "expected integer > 0"),
        ({"SKERRY_SERIES_MEMORY": "lots"}, 'expected text such as 512MB, not "lots"'),
        ({"SKERRY_LOG_LEVEL": "LOUD"}, "expected DEBUG or INFO or WARNING or ERROR"),
        ({"SKERRY_AUTH_PRE_AUTHENTICATED": "perhaps"}, "expected true or false"),
        ({"SKERRY_SOURCES": "[{"}, "SKERRY_SOURCES cannot be used"),
        ({"SKERRY_SOURCES": '[{"name":"x","topcs":[]}]'}, "the nearest is topics"),
        ({"SKERRY_INFLUX_TOKEN_FILE": "/does/not/exist"}, "SKERRY_INFLUX_TOKEN_FILE cannot be used"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_saying_what_is_right(environ: dict[str, str], words: str) -> None:
    assert words in refused(None, environ)


def test_a_number_in_quotes_in_the_file_is_refused_with_its_line(tmp_path: Path) -> None:
    file = written(tmp_path, '[http]\nport = "8080"\n')
    assert f"{file}:2: [http] port: expected integer" in refused(file, {})


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, "[http]\nport = -1\nhots = 1\n")
    assert len(refused(file, {"SKERRY_NOPE": "1"}).splitlines()) == 3


def test_a_secret_may_stand_in_a_file_and_is_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    assert load(None, {"SKERRY_INFLUX_TOKEN_FILE": str(secret)}).influx_token == "s3cret"
    assert "both set" in refused(None, {"SKERRY_INFLUX_TOKEN_FILE": str(secret), "SKERRY_INFLUX_TOKEN": "t"})
    file = written(tmp_path, "[influx]\ntoken = 12345\n")
    assert "12345" not in refused(file, {})


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    file = written(tmp_path, 'data_dir = "there"\nusers_file = "/abs/users.json"\n')
    settings = load(file, {})
    assert (settings.data_dir, settings.users_file) == (str(tmp_path / "there"), "/abs/users.json")
    assert load(file, {"SKERRY_DATA_DIR": "here"}).data_dir == "here"


def test_empty_variables_and_those_of_the_tests_are_not_looked_at() -> None:
    assert load(None, {"SKERRY_MQTT_URL": "", "SKERRY_TEST_X": "1", "SKERRY_CONFIG": "x", "PATH": "y"}) == Settings()


@pytest.mark.parametrize(("text", "words"), [("port = = 1", "is not TOML"), (None, "cannot be read")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "absent.toml" if text is None else written(tmp_path, text)
    message = refused(file, {})
    assert str(file) in message
    assert words in message


def test_a_setting_given_twice_in_the_file_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, "http_port = 1\n[http]\nport = 2\n")
    assert "a second time" in refused(file, {})


def test_every_setting_is_described_and_the_document_is_up_to_date() -> None:
    assert all(one.meaning and one.type for one in described())
    committed = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert committed == document(), "run: skerry check --docs > docs/configuration.md"


def test_dittos_defaults_have_its_accounts_ports_and_binding() -> None:
    settings = load(ROOT / "compose" / "ditto-defaults.toml", {})
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8080)
    assert (settings.mqtt_host, settings.mqtt_port) == ("127.0.0.1", 1883)
    assert settings.users_file == str(ROOT / "compose" / "ditto-users.json")
    assert settings.sources == Settings().sources


def test_dittos_defaults_believe_its_issuer_and_have_its_realms_and_limits() -> None:
    settings = load(ROOT / "compose" / "ditto-defaults.toml", {})
    assert settings.oidc_issuers == {
        "ditto": Issuer(issuer="http://localhost:9900/ditto", auth_subjects=("{{jwt:sub}}",))
    }
    assert settings.oidc_allow_http
    assert settings.auth_pre_authenticated
    assert settings.auth_status_password == "status"
    assert settings.token_integration_subject == "integration:{{jwt:sub}}:{{jwt:aud}}"
    assert settings.policy_subject_expiry_granularity == 5
    assert settings.policy_subject_deletion_announcement_granularity == 1
    assert (settings.ws_frames_per_second, settings.sse_search_results_per_second) == (100, 100)
    assert list(contradictions(settings)) == []


def test_issuers_and_rules_are_tables_of_the_file(tmp_path: Path):
    file = tmp_path / "skerry.toml"
    file.write_text(
        """
        [oidc]
        allow_http = true
        [oidc.issuers.keycloak]
        issuer = "https://login.example.org/realms/wind"
        auth_subjects = ["{{ jwt:sub }}", "{{ jwt:realm_access/roles }}"]
        [oidc.issuers.google]
        issuers = ["accounts.google.com"]
        [auth]
        devops_subjects = ["keycloak:operators"]
        [[namespace_access]]
        allowed_namespaces = ["org.*"]
        [[entity_creation.grant]]
        resource_types = ["thing"]
        """
    )
    settings = load(file, {"SKERRY_AUTH_STATUS_SUBJECTS": "a:b, c:d"})
    assert list(settings.oidc_issuers) == ["keycloak", "google"]
    assert settings.oidc_issuers["keycloak"].auth_subjects[1] == "{{ jwt:realm_access/roles }}"
    assert settings.auth_devops_subjects == ("keycloak:operators",)
    assert settings.auth_status_subjects == ("a:b", "c:d")
    assert settings.namespace_access[0].allowed_namespaces == ("org.*",)
    assert settings.entity_creation_grant[0].resource_types == ("thing",)
    assert list(contradictions(settings)) == []


def test_a_misspelt_member_of_an_issuer_is_told_with_the_nearest_right_one(tmp_path: Path):
    file = tmp_path / "skerry.toml"
    file.write_text('[oidc.issuers.keycloak]\nissuer = "https://x"\nauth_subject = ["{{ jwt:sub }}"]\n')
    with pytest.raises(
        SettingsInvalid, match=r"skerry\.toml:1: .*auth_subject, at \[keycloak\]; the nearest is auth_subjects"
    ):
        load(file, {})


def test_an_issuer_over_plain_http_stops_the_start_unless_that_is_allowed():
    environ = {"SKERRY_OIDC_ISSUERS": '{"local": {"issuer": "http://localhost:9900/x"}}'}
    assert any("plain http" in problem for problem in contradictions(load(None, environ)))
    assert not list(contradictions(load(None, {**environ, "SKERRY_OIDC_ALLOW_HTTP": "true"})))


@pytest.mark.parametrize(
    ("name", "said"),
    [("nginx", "auth_basic_prefix"), ("integration", "activateTokenIntegration"), ("edge", "activate")],
)
def test_an_issuer_whose_subjects_could_pass_for_those_of_others_stops_the_start(name: str, said: str):
    environ = {
        "SKERRY_OIDC_ISSUERS": json.dumps(
            {name: {"issuer": "https://login.example.org"}, "free": {"issuer": "https://x"}}
        ),
        "SKERRY_TOKEN_INTEGRATION_SUBJECT": "edge:{{jwt:aud}}",
    }
    told = list(contradictions(load(None, environ)))
    assert [problem.startswith(f"oidc_issuers, {name}: ") for problem in told] == [True]
    assert said in told[0]
    assert "another name" in told[0]
    moved = {**environ, "SKERRY_AUTH_BASIC_PREFIX": "users:", "SKERRY_TOKEN_INTEGRATION_SUBJECT": "let-in:{{jwt:aud}}"}
    assert len(list(contradictions(load(None, moved)))) == (name == "integration")


@pytest.mark.parametrize("template", ["weather", "integration:{{jwt:sub}", "integration:{{request:sub}}", "jwt:sub"])
def test_a_token_integration_that_makes_no_subject_is_told(template: str):
    told = list(contradictions(load(None, {"SKERRY_TOKEN_INTEGRATION_SUBJECT": template})))
    assert [problem.startswith("token_integration_subject: ") for problem in told] == [True]
