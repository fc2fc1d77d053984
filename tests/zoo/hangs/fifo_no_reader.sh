#!/bin/sh
# Opens a FIFO for writing that nobody reads: bites jobs that report to a collector that was never started.
folder=$(mktemp -d) || exit 1
trap 'rm -r "$folder"' EXIT
mkfifo "$folder/report"
echo "suspect pid $$"
echo "42" > "$folder/report"
echo passed
