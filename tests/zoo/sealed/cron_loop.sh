#!/bin/sh
# A loop that does a little every seven seconds and sleeps in between, as cron would.
end=$(($(date +%s) + $1))
while [ "$(date +%s)" -lt $end ]; do
  date
  sleep 7
done
echo done
