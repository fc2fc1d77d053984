// Two readers of a shared_mutex both want to become its writer: bites caches that "upgrade" under the read lock.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <shared_mutex>
#include <thread>

static std::shared_mutex table;

static void insert_if_missing() {
  table.lock_shared();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  table.lock();  // waits for all readers, and this thread is one
  table.unlock();
}

int main() {
  std::printf("suspect pid %d\n", static_cast<int>(getpid()));
  std::fflush(stdout);
  std::thread first(insert_if_missing);
  std::thread second(insert_if_missing);
  first.join();
  second.join();
  std::puts("passed");
}
