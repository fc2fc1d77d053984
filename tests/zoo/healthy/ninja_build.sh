#!/bin/sh
# ninja builds a chain of C++ files that each take a second or more; ninja itself sits in ppoll.
seconds=$1
folder=$(mktemp -d) || exit 1
trap 'rm -r "$folder"' EXIT
cd "$folder" || exit 1
{
  echo "rule cxx"
  echo "  command = g++ -O1 -c \$in -o \$out"
  number=0
  while [ $number -lt 8 ]; do
    echo "#include <functional>
#include <map>
#include <regex>
#include <string>
bool match$number(const std::string &text) { return std::regex_match(text, std::regex(\"a$number+\")); }" > "part$number.cc"
    echo "build part$number.o: cxx part$number.cc"
    number=$((number + 1))
  done
} > build.ninja
end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt $end ]; do
  ninja --quiet -j1 && rm -f ./*.o
done
echo done
