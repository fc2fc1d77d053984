#!/bin/sh
# A single process is stopped, and nobody is there to continue it: bites jobs that read the terminal from the background.
echo "suspect pid $$"
kill -STOP $$
echo passed
