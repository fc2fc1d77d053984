#!/bin/sh
# A shell waits for a sleep in the background: nothing at all moves until the timer fires.
sleep "$1" &
wait
echo done
