/* A network on a Cortex-M4F: audio.raw (16 bit) in, every decision out to decisions.bin.

   arm-none-eabi-gcc -std=gnu99 -O2 -ftree-vectorize -funroll-loops -mcpu=cortex-m4 -mthumb \
       -mfloat-abi=hard -mfpu=fpv4-sp-d16 -DLANES=1 -DNETWORK='"network.c"' -DPRICE=0.1f \
       start.c main.c -T link.ld -nostartfiles --specs=nano.specs -lm -o network.elf
   qemu-system-arm -M mps2-an386 -nographic -semihosting-config enable=on,target=native \
       -icount shift=0 -kernel network.elf

   where the names in network.c begin with network. The files are the host's (semihosting), and an
   instruction takes 1 ns, so that the board's timer, at 25 MHz, counts 40 of them. */

#include NETWORK
#include <stddef.h>

#define TIMER ((volatile uint32_t *)0x40000000) /* CMSDK APB timer 0: control, value, reload */
#define OPEN 1
#define WRITE 5
#define READ 6
#define EXIT 24

uint32_t stack_bytes(void);

static int host(int call, const void *told)
{
    register int r0 __asm("r0") = call;
    register const void *r1 __asm("r1") = told;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static int host_open(const char *name, size_t length, int mode)
{
    const uintptr_t told[] = {(uintptr_t)name, (uintptr_t)mode, length};
    return host(OPEN, told);
}

/* Bytes that were not moved. */
static int host_move(int call, int file, const void *bytes, size_t length)
{
    const uintptr_t told[] = {(uintptr_t)file, (uintptr_t)bytes, length};
    return host(call, told);
}

int main(void)
{
    static network_state s;
    static int16_t x[NETWORK_SAMPLES];
    static struct { network_result result; uint32_t ticks, stack; } out;
    const int in = host_open("audio.raw", 9, 1), to = host_open("decisions.bin", 13, 5);
    network_init(&s, PRICE);
    TIMER[2] = TIMER[1] = 0xffffffff;
    TIMER[0] = 1;
    while (host_move(READ, in, x, sizeof x) == 0) {
        const uint32_t before = TIMER[1];
        const int decided = network_step(&s, x, &out.result);
        out.ticks = before - TIMER[1];
        out.stack = stack_bytes();
        if (decided) host_move(WRITE, to, &out, sizeof out);
    }
    host(EXIT, (const void *)0x20026); /* ADP_Stopped_ApplicationExit */
    return 0;
}
