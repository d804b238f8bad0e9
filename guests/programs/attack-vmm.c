/*
 * attack-vmm: a VMM that attacks its own VM: the VM of bare/victim.c runs in this process, on memory of this process, which
 * then reads, writes and sends that memory itself. Reports as attack-vm does, as `... of its own VM`.
 *
 * Exit status: 0 when every attack was carried out.
 */
#include "attack.h"
#include "secret.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define SIZE (SECRET_PAGES * PAGE)
#define RAM_SIZE (64 << 20)

const char attacked[] = "vm";

static uint8_t *memory;
static uint8_t *secret;

/* The console, between the vCPU's thread and the main one. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char line[128];
static size_t length;
static bool complete;
static int question = -1;
static int ended = -1;

static void put(char byte) {
  pthread_mutex_lock(&lock);
  if (byte == '\n') complete = true;
  else if (length < sizeof line - 1) line[length++] = byte;
  if (complete) pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

static int get(void) {
  pthread_mutex_lock(&lock);
  int byte = question;
  question = -1;
  pthread_mutex_unlock(&lock);
  return byte;
}

static void *run(void *vcpu) {
  static const struct console console = { .put = put, .get = get };
  int result = vcpu_run(vcpu, &console);
  pthread_mutex_lock(&lock);
  ended = result;
  complete = true;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  return NULL;
}

/* Asks the guest, or awaits its first line when `byte` is -1. Damaged words, 0 for `ready`, -1 when it does not answer. */
static long ask(int byte) {
  struct timespec limit;
  long damaged = -1;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += 60;
  pthread_mutex_lock(&lock);
  if (byte >= 0) question = byte;
  while (!complete && pthread_cond_timedwait(&changed, &lock, &limit) == 0) {}
  line[length] = 0;
  if (strcmp(line, "intact") == 0 || strcmp(line, "ready") == 0) damaged = 0;
  else if (sscanf(line, "damaged %ld", &damaged) != 1) damaged = -1;
  length = 0;
  complete = false;
  pthread_mutex_unlock(&lock);
  return damaged;
}

static int load_all(void *copy) {
  memcpy(copy, secret, SIZE);
  return 0;
}

static int store_all(void *) {
  for (int i = 0; i < SIZE; i += PAGE) *(volatile uint64_t *)(secret + i) = 1;
  return 0;
}

int main(void) {
  struct vm vm;
  struct vcpu vcpu;
  pthread_t thread;
  int ends[2];
  setbuf(stdout, NULL);
  memory = guest_memory(RAM_SIZE, MAP_SHARED);
  secret = memory + (SECRET_BASE - RAM_BASE);
  load_file(BARE_FOLDER "victim.bin", memory + (GUEST_ENTRY - RAM_BASE), RAM_SIZE - (GUEST_ENTRY - RAM_BASE));
  vm_open(&vm);
  if (!vm_map(&vm, RAM_BASE, memory, RAM_SIZE)) fail(errno, "cannot map the guest's RAM");
  vcpu_open(&vcpu, &vm, 0, 0, GUEST_ENTRY);
  vm_add_gic(&vm, 1);
  int error = pthread_create(&thread, NULL, run, &vcpu);
  if (error != 0 || pipe(ends) < 0) fail(error, "cannot start the VM");
  if (ask(-1) != 0) fail(0, "the victim does not come up");

  uint8_t *copy = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int result = attempt(load_all, copy);
  uint64_t words = secret_words(copy, 0, SIZE);
  report_attack("read memory of its own VM", words != 0, "%s, %" PRIu64 " words of the secret", result < 128 ? "read" : death(result), words);

  result = attempt(store_all, NULL);
  long damaged = ask('c');
  report_attack("write memory of its own VM", damaged != 0, "%s, %ld words changed for the VM", result < 128 ? "written" : death(result),
                damaged);

  memset(copy, 0, SIZE);
  ssize_t put_bytes = write(ends[1], secret, PAGE);
  error = errno;
  if (put_bytes > 0 && read(ends[0], copy, PAGE) < 0) fail(errno, "pipe");
  words = secret_words(copy, 0, PAGE);
  report_attack("send memory of its own VM with write(2)", words != 0, "%s, %" PRIu64 " words of the secret",
                put_bytes > 0 ? "sent" : strerror(error), words);

  damaged = ask('q');
  pthread_join(thread, NULL);
  report_check("a VM goes on to power off when its VMM attacks it", damaged == 0 && ended == 0, "KVM_RUN %d, %ld words changed", ended,
               damaged);
  vcpu_close(&vcpu);
  vm_close(&vm);
  words = nonzero_words(secret, SIZE);
  report_check("the VMM reads zero from every page of a VM that ended", words == 0, "%" PRIu64 " words are not 0", words);
  return 0;
}
