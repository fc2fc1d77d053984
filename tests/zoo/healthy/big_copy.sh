#!/bin/sh
# Copies a large file again and again, each time synchronised to the disk: dd sits in D for seconds.
seconds=$1
folder=$(mktemp -d) || exit 1
trap 'rm -r "$folder"' EXIT
dd if=/dev/urandom of="$folder/source" bs=1M count=300 2>/dev/null
end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt $end ]; do
  dd if="$folder/source" of="$folder/copy" bs=1M conv=fsync 2>/dev/null
  rm "$folder/copy"
done
echo done
