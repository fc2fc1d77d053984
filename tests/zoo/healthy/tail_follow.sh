#!/bin/bash
# tail -f of a file that somebody appends to every five seconds, in a pipe to a filter.
file=$(mktemp) || exit 1
(
  end=$((SECONDS + $1))
  while [ $SECONDS -lt $end ]; do
    date >> "$file"
    sleep 5
  done
) &
writer=$!
tail -f --pid=$writer "$file" | grep --line-buffered .
rm "$file"
echo done
