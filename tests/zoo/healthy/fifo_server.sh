#!/bin/sh
# A daemon that takes its commands from a FIFO and gets none: idle in open, as anybody may write to it.
folder=$(mktemp -d) || exit 1
trap 'rm -r "$folder"' EXIT
mkfifo "$folder/commands"
while read -r command < "$folder/commands"; do
  echo "$command"
done
