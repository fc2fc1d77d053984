/* Two pthreads take two mutexes in opposite order: the textbook deadlock of every C library with two locks. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t left = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t right = PTHREAD_MUTEX_INITIALIZER;

static void *right_then_left(void *unused) {
  pthread_mutex_lock(&right);
  usleep(300000);
  pthread_mutex_lock(&left);
  return unused;
}

int main(void) {
  pthread_t thread;
  printf("suspect pid %d\n", (int)getpid());
  fflush(stdout);
  pthread_mutex_lock(&left);
  pthread_create(&thread, NULL, right_then_left, NULL);
  usleep(300000);
  pthread_mutex_lock(&right);
  puts("passed");
  return 0;
}
