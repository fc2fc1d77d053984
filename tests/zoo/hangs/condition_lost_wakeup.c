/* The signal comes before the wait and no predicate is looked at: bites hand-made start-up handshakes. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;

static void *quick_worker(void *unused) {
  pthread_mutex_lock(&mutex);
  pthread_cond_signal(&ready);
  pthread_mutex_unlock(&mutex);
  return unused;
}

int main(void) {
  pthread_t thread;
  printf("suspect pid %d\n", (int)getpid());
  fflush(stdout);
  pthread_create(&thread, NULL, quick_worker, NULL);
  usleep(300000); /* reads its configuration, and the worker is quicker */
  pthread_mutex_lock(&mutex);
  pthread_cond_wait(&ready, &mutex);
  puts("passed");
  return 0;
}
