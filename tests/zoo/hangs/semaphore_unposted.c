/* A child dies before it posts the shared semaphore: bites shared-memory pipelines whose producer crashes. */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  sem_t *full = mmap(NULL, sizeof *full, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(full, 1, 0);
  printf("suspect pid %d\n", (int)getpid());
  fflush(stdout);
  pid_t producer = fork();
  if (producer == 0) {
    usleep(200000);
    _exit(3); /* an error path without sem_post */
  }
  while (sem_wait(full) != 0) {
  }
  waitpid(producer, NULL, 0);
  puts("passed");
  return 0;
}
