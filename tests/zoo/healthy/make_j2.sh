#!/bin/sh
# make -j2 of many C files, one after another: recipes come and go, make itself only waits.
seconds=$1
folder=$(mktemp -d) || exit 1
trap 'rm -r "$folder"' EXIT
cd "$folder" || exit 1
number=0
while [ $number -lt 24 ]; do
  {
    echo "#include <stdlib.h>"
    line=0
    while [ $line -lt 400 ]; do
      echo "int f${number}_$line(int a, int b) { int s = 0; for (int i = a; i < b; i++) s += abs(i * $line) % 7; return s; }"
      line=$((line + 1))
    done
  } > "part$number.c"
  number=$((number + 1))
done
printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\n%%.o: %%.c\n\t@gcc -O2 -c $< -o $@\n' > Makefile
end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt $end ]; do
  make -s -j2 && rm -f ./*.o
done
echo done
