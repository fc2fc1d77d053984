/* A vfork child that never comes to exec keeps its parent in D: bites spawners whose child blocks before exec. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
  printf("suspect pid %d\n", (int)getpid());
  fflush(stdout);
  pid_t child = vfork();
  if (child == 0) {
    for (;;) {
      pause();
    }
  }
  puts("passed");
  return 0;
}
