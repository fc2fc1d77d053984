#!/bin/sh
# A chain of filters with one slow link: all others wait on full or empty pipes nearly all the time.
timeout "$1" cat /dev/urandom | gzip -9 | gzip -d | sha256sum
echo done
