/* Native waits for the parsers' fixtures: a C function that never returns, and a thread that Python never saw. */
#include <pthread.h>
#include <semaphore.h>

static sem_t never;

static void native_wait_inner(void) {
    while (sem_wait(&never) != 0) {
    }
}

void native_wait(void) { native_wait_inner(); }

static void *unseen_loop(void *unused) {
    (void)unused;
    native_wait_inner();
    return 0;
}

void native_start(void) {
    pthread_t thread;
    sem_init(&never, 0, 0);
    pthread_create(&thread, 0, unseen_loop, 0);
    pthread_detach(thread);
}
