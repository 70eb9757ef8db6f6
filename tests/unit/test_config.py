"""Settings: where they come from, which wins, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemmapy.app import check_compared
from gemmapy.config import COMPARED, Settings, UpstreamSettings
from gemmapy.core.errors import ConfigurationError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_line_wins_over_the_environment_over_the_file(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "gemmapy.toml").write_text('port = 1\nhost = "a"\ndata = "d"\n')
    monkeypatch.setenv("GEMMAPY_PORT", "2")
    monkeypatch.setenv("GEMMAPY_HOST", "b")
    settings = Settings.load(port=3)
    assert (settings.port, settings.host, settings.data) == (3, "b", Path("d"))
    assert Settings.load().idle_timeout_s == 120


def test_upstreams_can_be_written_in_three_ways(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "gemmapy.toml").write_text(
        '[[upstreams]]\nkind = "openai"\nname = "gpu"\nurl = "http://g/v1/"\napi_key = "k1"\n'
        '[[upstreams]]\nkind = "ollama"\n'
    )
    gpu, ollama = Settings.load().upstreams
    assert (gpu.name, gpu.address) == ("gpu", "http://g/v1")
    assert (ollama.name, ollama.address) == ("ollama", "http://localhost:11434")
    monkeypatch.setenv("GEMMAPY_UPSTREAMS", "ollama=http://a, big:ollama=http://b ollama=http://c")
    monkeypatch.setenv("GEMMAPY_UPSTREAM_BIG_API_KEY", "k2")
    named = Settings.load().upstreams
    assert [upstream.name for upstream in named] == ["ollama", "big", "ollama2"]
    assert named[1].api_key is not None
    assert named[1].api_key.get_secret_value() == "k2"
    assert Settings.load(upstreams=(UpstreamSettings.parse("llamacpp"),)).upstreams[0].kind == "llamacpp"


def test_fallbacks_can_be_written_as_chains_or_in_the_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "gemmapy.toml").write_text('[fallbacks]\nllama3 = ["mistral"]\n')
    assert Settings.load().fallbacks == {"llama3": ("mistral",)}
    monkeypatch.setenv("GEMMAPY_FALLBACKS", "llama3 > mistral>phi4:14b, qwen/a:b>llama3")
    assert Settings.load().fallbacks == {"llama3": ("mistral", "phi4:14b"), "qwen/a:b": ("llama3",)}


@pytest.mark.parametrize("text", ["llama3", "llama3>", ">llama3", "a>b,a>c", "a>a", "a>b>b"])
def test_a_fallback_that_makes_no_sense_is_told(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMAPY_FALLBACKS", text)
    with pytest.raises(ConfigurationError, match="fallbacks: "):
        Settings.load()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://a", "KIND=URL"),
        ("olama=http://a", "KIND is one of"),
        (":ollama=http://a", "KIND=URL"),
        ("openai", "needs a url"),
        ("ollama=ftp://a", "http://"),
        ("ollama=http://user:pw@a", "must not hold a user"),
        ("llamacpp=/no/such.gguf", "no model file"),
    ],
)
def test_an_upstream_that_makes_no_sense_is_told(text: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMAPY_UPSTREAMS", text)
    with pytest.raises(ConfigurationError, match=says) as refusal:
        Settings.load()
    assert "pw" not in refusal.value.message.replace("pw@", "") or "user:pw" not in refusal.value.message


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("prot = 1", "do you mean port"),
        ("port = 99999", "port: .*65535"),
        ("port =", "not valid TOML"),
        ('secret = "short"', "at least 32"),
        ('admin_password = "short"', "8 to 1024"),
        ('trusted_proxies = ["nonsense"]', "trusted_proxies"),
        ('base_path = "llm"', "like /llm"),
        ('tls_cert = "x"', "go together"),
        ('upstreams = ["ollama=http://a", "ollama:ollama=http://b"]', "two upstreams"),
    ],
)
def test_a_mistake_in_the_file_is_told_in_its_words(elsewhere: Path, toml: str, says: str) -> None:
    (elsewhere / "gemmapy.toml").write_text(toml)
    with pytest.raises(ConfigurationError, match=says):
        Settings.load()


def test_a_secret_is_in_no_message_and_no_repr(elsewhere: Path) -> None:
    (elsewhere / "gemmapy.toml").write_text('secret = "tooshort-hunter2"')
    with pytest.raises(ConfigurationError) as refusal:
        Settings.load()
    assert "hunter2" not in refusal.value.message
    assert "hunter2" not in repr(Settings(admin_password="hunter2hunter2"))  # pyright: ignore


def test_a_misspelt_variable_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMAPY_PROT", "1")
    with pytest.raises(ConfigurationError, match="GEMMAPY_PROT is not a setting"):
        Settings.load()


def test_a_config_file_that_was_named_must_be_there(elsewhere: Path) -> None:
    with pytest.raises(ConfigurationError, match="no configuration file"):
        Settings.load(elsewhere / "other.toml")


def test_the_url_is_one_that_can_be_opened() -> None:
    assert Settings(host="0.0.0.0", port=80, base_path="/llm/").url == "http://localhost:80/llm"


def test_the_models_to_compare_with_are_the_operators_choice(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().compare_models == COMPARED
    (elsewhere / "gemmapy.toml").write_text("compare_models = []")
    assert Settings.load().compare_models == ()
    monkeypatch.setenv("GEMMAPY_COMPARE_MODELS", "openai/gpt-4o, mistral/mistral-nemo")
    assert Settings.load().compare_models == ("openai/gpt-4o", "mistral/mistral-nemo")


def test_a_model_to_compare_with_that_is_not_known_is_told_at_the_start() -> None:
    check_compared(("openai/gpt-4o",))
    with pytest.raises(ConfigurationError, match="compare_models: There is no hosted model 'openai/gpt-4o-mimi'"):
        check_compared(("openai/gpt-4o-mimi",))
