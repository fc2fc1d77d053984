#!/bin/sh
# A program under gdb: first held at a breakpoint for eight seconds (state t), then sleeping while gdb waits for it.
exec gdb -nx -batch -ex 'set startup-with-shell off' -ex 'set debuginfod enabled off' -ex 'starti' -ex 'shell sleep 8' \
  -ex 'continue' --args sleep "$1"
