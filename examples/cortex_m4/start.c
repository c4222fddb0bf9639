/* From reset to main on a Cortex-M4F, and how much of the stack was used until now. */

#include <stdint.h>

#define UNUSED_STACK 0xa5a5a5a5u

extern uint32_t data_load[], data_begin[], data_end[], bss_begin[], bss_end[], stack_top[];
int main(void);
uint32_t stack_bytes(void);
void reset(void);

void reset(void)
{
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* CPACR: the FPU is on */
    __asm volatile("dsb\n isb");
    const uint32_t *from = data_load;
    for (uint32_t *p = data_begin; p < data_end; ++p) *p = *from++;
    for (volatile uint32_t *p = bss_begin; p < bss_end; ++p) *p = 0;
    uint32_t *const here = __builtin_frame_address(0);
    for (volatile uint32_t *p = bss_end; p < here - 64; ++p) *p = UNUSED_STACK;
    main();
    for (;;) {}
}

/* The deepest that the stack has been, in bytes. */
uint32_t stack_bytes(void)
{
    const uint32_t *p = bss_end;
    while (p < stack_top && *p == UNUSED_STACK) ++p;
    return 4 * (uint32_t)(stack_top - p);
}

static void fault(void)
{
    for (;;) {}
}

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {
    stack_top,
    {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault},
};
