#!/bin/sh
# find over a large tree with a short-lived process per file: thousands of children, each gone at once.
end=$(($(date +%s) + $1))
find /usr -xdev -type f -exec sh -c '[ "$(date +%s)" -lt "$1" ] && cksum "$2" > /dev/null' sh $end {} \; -o -quit
echo done
