#!/bin/bash
# Posts the news of a night to a chat whose webhook takes {"text": …}. crashcart nightly calls it (notify.command) with
# the summary as JSON on stdin and as Markdown in $CRASHCART_SUMMARY; a night that could not begin has the JSON only.
set -euo pipefail
python3 -c '
import json, os, sys
summary = json.load(sys.stdin)
path = os.environ.get("CRASHCART_SUMMARY")
text = open(path, encoding="utf-8").read() if path else "cannot begin: " + summary["error"]
json.dump({"text": os.environ["CRASHCART_NIGHTLY"] + "\n" + text[:3500]}, sys.stdout)
' | curl --silent --show-error --fail --max-time 30 -H 'Content-Type: application/json' --data @- "$WEBHOOK_URL"
