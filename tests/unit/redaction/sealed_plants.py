"""The sealed third: placements written after the redactor had been frozen by a commit (docs/redaction.md)."""

from __future__ import annotations

import html
import json
import string
from urllib.parse import quote

from tests.unit.redaction.planting import Plant, b64, made, wrapped

HF = "hf_" + made("sealed-hf", 34)
OPENAI = "sk-" + made("sealed-openai", 48)
GITHUB = "github_pat_" + made("sealed-gh1", 22) + "_" + made("sealed-gh2", 59)
AWS_KEY = made("sealed-aws", 14) + "+" + made("sealed-aws2", 12) + "/" + made("sealed-aws3", 12)
VAULT = "hvs." + made("sealed-vault", 90)
GROQ = "gsk_" + made("sealed-groq", 52)
KUBE = "eyJ" + made("sealed-k1", 40) + ".eyJ" + made("sealed-k2", 200) + "." + made("sealed-k3", 342)
DOCKER = made("sealed-docker", 22)
MYSQL = "R00t!" + made("sealed-mysql", 12)
MONGO = "p@ss/" + made("sealed-mongo", 12)
TWILIO = "SK" + made("sealed-twilio", 32, "0123456789abcdef")
DISCORD = made("sealed-discord", 68)
SIGNED = made("sealed-signed", 64, "0123456789abcdef")
SAS = made("sealed-sas", 43)
PROXY = "x" + made("sealed-proxy", 15)
WORDS = "purple monkey dishwasher 7"
LOWER = made("sealed-lower", 18, string.ascii_lowercase)
EC_BODY = made("sealed-ec", 160)
PIN = made("sealed-pin", 12, string.digits)
DATABRICKS = "dapi" + made("sealed-databricks", 32, "0123456789abcdef")
COOKIE = made("sealed-cookie", 40)
MLFLOW = made("sealed-mlflow", 24)
SENTRY = made("sealed-sentry", 32, "0123456789abcdef")

PLANTS = (
    Plant(kind="hugging-face", where="diff", secret=HF, text=f"-  token: null\n+  token: {HF}\n"),
    Plant(kind="hugging-face", where="json-in-json", secret=HF, text=json.dumps({"event": "observed", "data": json.dumps({"env": {"HUGGING_FACE_HUB_TOKEN": HF}})}) + "\n"),
    Plant(kind="openai", where="split-string", secret=OPENAI, env={"OPENAI_API_KEY": OPENAI}, text=f'client = OpenAI(api_key="{OPENAI[:20]}" + "{OPENAI[20:]}")\n'),
    Plant(kind="openai", where="split-three", secret=OPENAI, env={"OPENAI_API_KEY": OPENAI}, text=f"[rank0]: key {OPENAI[:17]}\n[rank0]: {OPENAI[17:34]}\n[rank0]: {OPENAI[34:]}\n"),
    Plant(kind="github", where="git-config", secret=GITHUB, text=f'[url "https://oauth2:{GITHUB}@github.com/"]\n\tinsteadOf = https://github.com/\n'),
    Plant(kind="aws-key", where="url-encoded-twice", secret=AWS_KEY, env={"MINIO_SECRET_ACCESS_KEY": AWS_KEY}, text="next=" + quote(quote(AWS_KEY, safe=""), safe="") + "\n"),
    Plant(kind="aws-key", where="yaml", secret=AWS_KEY, text=f"storage:\n  secretAccessKey: '{AWS_KEY}'\n  region: eu-west-1\n"),
    Plant(kind="aws-key", where="base64-wrapped", secret=AWS_KEY, env={"MINIO_SECRET_ACCESS_KEY": AWS_KEY}, text="blob: |\n  " + wrapped(b64("profile=default;key=" + AWS_KEY + ";end=1;padding=none"), 20, "\n  ") + "\n"),
    Plant(kind="vault", where="curl", secret=VAULT, text=f"curl -H 'X-Vault-Token: {VAULT}' http://127.0.0.1:8200/v1/sys\n"),
    Plant(kind="groq", where="traceback-locals", secret=GROQ, text=f"    self = <Client at 0x7f12>\n    key = '{GROQ}'\n    retries = 2\n"),
    Plant(kind="kubernetes", where="kubeconfig", secret=KUBE, text=f"users:\n- name: admin\n  user:\n    token: {KUBE}\n"),
    Plant(kind="docker", where="config-base64", secret=DOCKER, text='{"auths": {"registry.acme.io": {"auth": "' + b64(f"ci-bot:{DOCKER}") + '"}}}\n'),
    Plant(kind="mysql", where="argv", secret=MYSQL, text=f"mysql -h db -u root -p{MYSQL} runs\n"),
    Plant(kind="mongo", where="url-encoded-userinfo", secret=MONGO, text=f"mongodb+srv://svc:{quote(MONGO, safe='')}@cluster0.acme.mongodb.net/?retryWrites=true\n"),
    Plant(kind="twilio", where="environment-dump", secret=TWILIO, text=f"environ({{'TWILIO_API_KEY': '{TWILIO}', 'PATH': '/usr/bin'}})\n"),
    Plant(kind="discord", where="webhook", secret=DISCORD, text=f"alert=https://discord.com/api/webhooks/1122334455/{DISCORD}\n"),
    Plant(kind="presigned-url", where="url", secret=SIGNED, text=f"GET https://b.s3.amazonaws.com/model?X-Amz-Date=20261121T0612Z&X-Amz-Signature={SIGNED}&x-id=GetObject 200\n"),
    Plant(kind="azure-sas", where="url", secret=SAS, text=f"https://acme.blob.core.windows.net/c/m.bin?sv=2024-11-04&sig={SAS}%3D&se=2027\n"),
    Plant(kind="proxy", where="lower-case-variable", secret=PROXY, env={"http_proxy": f"http://{PROXY}@10.9.8.7:3128"}, text=f"CONNECT via {PROXY}\n"),
    Plant(kind="passphrase", where="spaces", secret=WORDS, env={"SSH_KEY_PASSPHRASE": WORDS}, text=f"unlock with '{WORDS}' done\n"),
    Plant(kind="plain-password", where="stack-argument", secret=LOWER, env={"POSTGRES_PASSWORD": LOWER}, text=f'  File "/usr/local/lib/python3.11/dist-packages/pg.py", line 3, in connect\n    connect("db", {LOWER!r})\n'),
    Plant(kind="ec-key", where="json-escaped", secret=EC_BODY[20:60], text=json.dumps({"private_key": f"-----BEGIN EC PRIVATE KEY-----\n{wrapped(EC_BODY, 64)}\n-----END EC PRIVATE KEY-----\n"}) + "\n"),
    Plant(kind="one-time-code", where="log", secret=PIN, text=f"otp={PIN} accepted\n"),
    Plant(kind="databricks", where="ini", secret=DATABRICKS, text=f"[DEFAULT]\nhost = https://acme.cloud.databricks.com\ntoken = {DATABRICKS}\n"),
    Plant(kind="cookie", where="set-cookie", secret=COOKIE, text=f"set-cookie: session={COOKIE}; Path=/; HttpOnly\n"),
    Plant(kind="mlflow", where="hex", secret=MLFLOW, env={"MLFLOW_TRACKING_PASSWORD": MLFLOW}, text=f"payload {MLFLOW.encode().hex()} sent\n"),
    Plant(kind="mlflow", where="html", secret=MLFLOW + "&" + MLFLOW[:4], env={"MLFLOW_SERVER_PASSWORD": MLFLOW + "&" + MLFLOW[:4]}, text=f"<td>{html.escape(MLFLOW + '&' + MLFLOW[:4])}</td>\n"),
    Plant(kind="sentry", where="dsn", secret=SENTRY, text=f"SENTRY_DSN=https://{SENTRY}@o12345.ingest.sentry.io/67890\n"),
    Plant(kind="openai", where="url-safe-base64", secret=OPENAI, text="GET /cb?state=" + b64(json.dumps({"k": OPENAI})).translate(str.maketrans("+/", "-_")) + "\n"),
)  # fmt: skip
