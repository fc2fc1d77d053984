/* The producer of a POSIX message queue that has no name any more dies first: bites brokers built on mqueue. */
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  char name[64], message[64];
  struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = sizeof message};
  snprintf(name, sizeof name, "/crashcart.%d", (int)getpid());
  mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
  if (queue == (mqd_t)-1) {
    perror("mq_open");
    return 1;
  }
  mq_unlink(name);
  printf("suspect pid %d\n", (int)getpid());
  fflush(stdout);
  pid_t producer = fork();
  if (producer == 0) {
    usleep(200000);
    _exit(3); /* before its first message */
  }
  waitpid(producer, NULL, 0);
  while (mq_receive(queue, message, sizeof message, NULL) < 0) {
  }
  puts("passed");
  return 0;
}
