"""The placements that the redactor was written against: two thirds."""

from __future__ import annotations

import json
import string

from tests.unit.redaction.planting import Plant, b64, made, wrapped

HF = "hf_" + made("hf", 34)
OPENAI = "sk-proj-" + made("openai", 48)
ANTHROPIC = "sk-ant-api03-" + made("anthropic", 60)
GITHUB = "ghp_" + made("github", 36)
GITLAB = "glpat-" + made("gitlab", 20)
AWS_ID = "AKIA" + made("aws-id", 16, string.ascii_uppercase + string.digits)
AWS_KEY = made("aws", 18) + "/" + made("aws2", 10) + "+" + made("aws3", 10)
SLACK = "xoxb-" + made("s1", 12, string.digits) + "-" + made("s2", 24)
HOOK_END = made("h3", 24)
SLACK_HOOK = "https://hooks.slack.com/services/T" + made("h1", 8) + "/B" + made("h2", 8) + "/" + HOOK_END
JWT = "eyJ" + made("j1", 30) + ".eyJ" + made("j2", 60) + "." + made("j3", 43)
PEM_BODY = made("pem", 320)
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + wrapped(PEM_BODY, 64) + "\n-----END RSA PRIVATE KEY-----"
DB = "Pa55-" + made("db", 14)
PROXY = made("proxy", 16)
BASIC = made("basic", 18)
BEARER = made("bearer", 40)
GOOGLE = "AIza" + made("google", 35)
STRIPE = "sk_live_" + made("stripe", 24)
SENDGRID = "SG." + made("sg1", 22) + "." + made("sg2", 43)
NPM = "npm_" + made("npm", 36)
PYPI = "pypi-AgEIcHlwaS5vcmc" + made("pypi", 60)
WANDB = made("wandb", 40, "0123456789abcdef")
NVAPI = "nvapi-" + made("nv", 64)
WORDS = "correct-horse-battery-staple"
AZURE = made("azure", 86) + "=="
TELEGRAM = made("tg1", 10, "123456789") + ":AA" + made("tg2", 33)
REDIS = made("redis", 20)
COOKIE = made("cookie", 32)

PLANTS = (
    Plant(kind="hugging-face", where="environment", secret=HF, env={"HF_TOKEN": HF}, text=f"HF_TOKEN={HF}\n"),
    Plant(kind="hugging-face", where="log", secret=HF, text=f"INFO 11-21 06:12:42 [utils.py:99] using token {HF} for the hub\n"),
    Plant(kind="hugging-face", where="split", secret=HF, text=f"INFO token {HF[:15]}\n    {HF[15:]} accepted\n"),
    Plant(kind="openai", where="argv", secret=OPENAI, text=f"python -m vllm.entrypoints.openai.api_server --api-key {OPENAI} --port 8000\n"),
    Plant(kind="openai", where="config", secret=OPENAI, text=json.dumps({"api_key": OPENAI, "model": "tiny"}) + "\n"),
    Plant(kind="openai", where="base64", secret=OPENAI, text=f"data: {b64('key=' + OPENAI)}\n"),
    Plant(kind="anthropic", where="stack", secret=ANTHROPIC, text=f'  File "/usr/local/lib/python3.11/dist-packages/client.py", line 12, in post\n    headers = {{"x-api-key": "{ANTHROPIC}"}}\n'),
    Plant(kind="anthropic", where="url-encoded", secret=ANTHROPIC, text="GET /v1?auth=" + ANTHROPIC.replace("-", "%2D") + "\n"),
    Plant(kind="github", where="url", secret=GITHUB, text=f"git clone https://{GITHUB}@github.com/acme/private.git\n"),
    Plant(kind="github", where="split", secret=GITHUB, env={"GITHUB_TOKEN": GITHUB}, text=f"(EngineCore pid=812) token {GITHUB[:9]}\n(EngineCore pid=812) {GITHUB[9:]}\n"),
    Plant(kind="gitlab", where="log", secret=GITLAB, text=f"fetching with PRIVATE-TOKEN: {GITLAB}\n"),
    Plant(kind="gitlab", where="config", secret=GITLAB, text=f"[gitlab]\nprivate_token = {GITLAB}\n"),
    Plant(kind="aws-id", where="config", secret=AWS_ID, text=f"[default]\naws_access_key_id = {AWS_ID}\n"),
    Plant(kind="aws-id", where="url", secret=AWS_ID, text=f"https://bucket.s3.amazonaws.com/m?X-Amz-Credential={AWS_ID}%2F20261121%2Fus-east-1\n"),
    Plant(kind="aws-key", where="environment", secret=AWS_KEY, env={"AWS_SECRET_ACCESS_KEY": AWS_KEY}, text=f"env: {AWS_KEY}\n"),
    Plant(kind="aws-key", where="url-encoded", secret=AWS_KEY, env={"AWS_SECRET_ACCESS_KEY": AWS_KEY}, text="q=" + AWS_KEY.replace("/", "%2F").replace("+", "%2B") + "&r=1\n"),
    Plant(kind="aws-key", where="base64", secret=AWS_KEY, env={"AWS_SECRET_ACCESS_KEY": AWS_KEY}, text=b64("aws:" + AWS_KEY + ":x") + "\n"),
    Plant(kind="slack", where="log", secret=SLACK, text=f"notify: {SLACK}\n"),
    Plant(kind="slack-webhook", where="config", secret=HOOK_END, text=f"webhook_url: {SLACK_HOOK}\n"),
    Plant(kind="jwt", where="log", secret=JWT, text=f"Authorization: Bearer {JWT}\n"),
    Plant(kind="jwt", where="split", secret=JWT, text='token = ("' + wrapped(JWT, 50, '"\n         "') + '")\n'),
    Plant(kind="private-key", where="config", secret=PEM_BODY[:60], text=f"key: |\n{PEM}\n"),
    Plant(kind="private-key", where="environment", secret=PEM_BODY[64:120], env={"SSH_PRIVATE_KEY": PEM}, text="SSH_PRIVATE_KEY=" + json.dumps(PEM) + "\n"),
    Plant(kind="database", where="url", secret=DB, text=f"postgresql://trainer:{DB}@db7.prod.acme.internal:5432/runs\n"),
    Plant(kind="database", where="stack", secret=DB, text=f"sqlalchemy.exc.OperationalError: could not connect with password={DB} (Background on this error)\n"),
    Plant(kind="proxy", where="environment", secret=PROXY, env={"HTTPS_PROXY": f"http://build:{PROXY}@proxy.acme.internal:3128"}, text=f"proxy said 407 to {PROXY}\n"),
    Plant(kind="basic-auth", where="base64", secret=BASIC, text="Authorization: Basic " + b64(f"carol:{BASIC}") + "\n"),
    Plant(kind="basic-auth", where="argv", secret=BASIC, text=f"curl -u carol:{BASIC} http://10.1.2.3/x\n"),
    Plant(kind="bearer", where="log", secret=BEARER, text=f"headers={{'Authorization': 'Bearer {BEARER}'}}\n"),
    Plant(kind="bearer", where="json-argv", secret=BEARER, text=json.dumps(["serve", "--auth-token", BEARER, "--port", "1"]) + "\n"),
    Plant(kind="google", where="url", secret=GOOGLE, text=f"https://maps.googleapis.com/x?key={GOOGLE}\n"),
    Plant(kind="stripe", where="log", secret=STRIPE, text=f"charging with {STRIPE}\n"),
    Plant(kind="sendgrid", where="config", secret=SENDGRID, text=f"mail:\n  sendgrid: {SENDGRID}\n"),
    Plant(kind="npm", where="config", secret=NPM, text=f"//registry.npmjs.org/:_authToken={NPM}\n"),
    Plant(kind="pypi", where="argv", secret=PYPI, text=f"twine upload -u __token__ -p {PYPI} dist/x.whl\n"),
    Plant(kind="wandb", where="environment", secret=WANDB, env={"WANDB_API_KEY": WANDB}, text=f"wandb: logged in as carol ({WANDB})\n"),
    Plant(kind="wandb", where="config", secret=WANDB, text=f"machine api.wandb.ai login user password {WANDB}\n"),
    Plant(kind="nvidia", where="argv", secret=NVAPI, text=f"docker login nvcr.io --password={NVAPI}\n"),
    Plant(kind="plain-password", where="environment", secret=WORDS, env={"RAY_DASHBOARD_PASSWORD": WORDS}, text=f"login with {WORDS} worked\n"),
    Plant(kind="plain-password", where="split", secret=WORDS, env={"RAY_DASHBOARD_PASSWORD": WORDS}, text=f"said {WORDS[:9]}\\n{WORDS[9:]} to it\n"),
    Plant(kind="azure", where="config", secret=AZURE, text=f"DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={AZURE};EndpointSuffix=core.windows.net\n"),
    Plant(kind="telegram", where="url", secret=TELEGRAM, text=f"https://api.telegram.org/bot{TELEGRAM}/sendMessage\n"),
    Plant(kind="redis", where="argv", secret=REDIS, text=f"gcs_server --redis_password={REDIS} --raylet_socket_name=/tmp/ray/s\n"),
    Plant(kind="cookie", where="log", secret=COOKIE, text=f"Cookie: theme=dark; sessionid={COOKIE}; lang=en\n"),
)  # fmt: skip
