/*
 * Where CPUs enter the core, and the exception vectors. A vector saves x0..x30 of the interrupted context in the
 * per-CPU area, calls one export of kcore.wasm and resumes the context it names. No stack survives an exit.
 *
 * tpidr_el2 points to the host's frame in the CPU's area; the guest's frame follows at +256.
 */
#include "layout.h"

#define FRAME_GUEST	256
#define STACK_SHIFT	14

	.section .head, "ax"
	.global	_head
_head:
	b	first_cpu			/* header of an arm64 Image (Documentation/arch/arm64/booting.rst) */
	.long	0
	.quad	0				/* text_offset */
	.quad	image_size
	.quad	0xa				/* little endian, 4 KiB pages, anywhere */
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0

	.text
first_cpu:
	mov	x19, xzr
	bl	el2_on
	bl	boot
	b	resume_host

	.global	secondary_cpu
secondary_cpu:					/* x0: CPU number */
	mov	x19, x0
	bl	el2_on
	mov	x0, x19
	bl	cpu_on
	b	resume_host

	/* Turns the core's translation on; x19: CPU number. The tables are part of the image and never change. */
el2_on:
	msr	SPsel, #1
	mov	x0, #0x80000000			/* HCR_EL2.RW */
	msr	hcr_el2, x0
	isb
	ldr	x0, =CPU_AREAS + HOST_FRAME
	add	x0, x0, x19, lsl #12
	adrp	x1, linear_memory
	add	x1, x1, :lo12:linear_memory
	add	x0, x0, x1
	msr	tpidr_el2, x0
	adrp	x0, stacks
	add	x1, x19, #1
	add	x0, x0, x1, lsl #STACK_SHIFT
	mov	sp, x0
	adrp	x0, vectors
	msr	vbar_el2, x0
	ldr	x0, =0xff00			/* MAIR_EL2: 0 device nGnRnE, 1 normal write-back */
	msr	mair_el2, x0
	ldr	x0, =0x80853510			/* TCR_EL2: T0SZ 16, 4 KiB, inner shareable write-back, PS 48 bits */
	msr	tcr_el2, x0
	adrp	x0, el2_tables
	msr	ttbr0_el2, x0
	tlbi	alle2
	dsb	sy
	ic	iallu
	dsb	sy
	isb
	ldr	x0, =0x30cd183d			/* SCTLR_EL2: M, C, SA, I, WXN and RES1 bits */
	msr	sctlr_el2, x0
	isb
	ret

	.macro	save_from_2 frame, base
	stp	x2, x3, [\frame, #(\base + 16)]
	stp	x4, x5, [\frame, #(\base + 32)]
	stp	x6, x7, [\frame, #(\base + 48)]
	stp	x8, x9, [\frame, #(\base + 64)]
	stp	x10, x11, [\frame, #(\base + 80)]
	stp	x12, x13, [\frame, #(\base + 96)]
	stp	x14, x15, [\frame, #(\base + 112)]
	stp	x16, x17, [\frame, #(\base + 128)]
	stp	x18, x19, [\frame, #(\base + 144)]
	stp	x20, x21, [\frame, #(\base + 160)]
	stp	x22, x23, [\frame, #(\base + 176)]
	stp	x24, x25, [\frame, #(\base + 192)]
	stp	x26, x27, [\frame, #(\base + 208)]
	stp	x28, x29, [\frame, #(\base + 224)]
	str	x30, [\frame, #(\base + 240)]
	.endm

	.macro	load_all base
	mrs	x30, tpidr_el2
	ldp	x0, x1, [x30, #(\base)]
	ldp	x2, x3, [x30, #(\base + 16)]
	ldp	x4, x5, [x30, #(\base + 32)]
	ldp	x6, x7, [x30, #(\base + 48)]
	ldp	x8, x9, [x30, #(\base + 64)]
	ldp	x10, x11, [x30, #(\base + 80)]
	ldp	x12, x13, [x30, #(\base + 96)]
	ldp	x14, x15, [x30, #(\base + 112)]
	ldp	x16, x17, [x30, #(\base + 128)]
	ldp	x18, x19, [x30, #(\base + 144)]
	ldp	x20, x21, [x30, #(\base + 160)]
	ldp	x22, x23, [x30, #(\base + 176)]
	ldp	x24, x25, [x30, #(\base + 192)]
	ldp	x26, x27, [x30, #(\base + 208)]
	ldp	x28, x29, [x30, #(\base + 224)]
	ldr	x30, [x30, #(\base + 240)]
	.endm

	/* An exception from the context whose frame is at \base: x0..x30 go there, x0 becomes the CPU number. */
	.macro	enter base
	stp	x0, x1, [sp, #-16]!
	mrs	x0, tpidr_el2
	save_from_2 x0, \base
	ldp	x2, x3, [sp], #16
	stp	x2, x3, [x0, #(\base)]
	ubfx	x0, x0, #12, #6
	.endm

	.macro	vector target
	.balign	128
	b	\target
	.endm

	.macro	guest_vector code
	.balign	128
	hint	#16				/* ESB */
	stp	x0, x1, [sp, #-16]!
	mov	x1, #\code
	b	from_guest
	.endm

	.macro	core_vector number
	.balign	128
	mov	x1, #\number
	b	from_core
	.endm

	.balign	4096
	.global	vectors
vectors:					/* while the host runs */
	core_vector 0
	core_vector 1
	core_vector 2
	core_vector 3
	core_vector 4
	core_vector 5
	core_vector 6
	core_vector 7
	vector	from_host
	core_vector 9
	core_vector 10
	core_vector 11
	core_vector 12
	core_vector 13
	core_vector 14
	core_vector 15
	.balign	2048				/* while a guest runs: ARM_EXCEPTION_* of asm/kvm_asm.h */
	core_vector 16
	core_vector 17
	core_vector 18
	core_vector 19
	core_vector 20
	core_vector 21
	core_vector 22
	core_vector 23
	guest_vector 2
	guest_vector 0
	guest_vector 0
	guest_vector 1
	guest_vector 2
	guest_vector 0
	guest_vector 0
	guest_vector 1
	.balign	2048

from_host:
	enter	0
	bl	host_trap
	cbnz	w0, resume_guest
resume_host:
	load_all 0
	eret
	dsb	nsh				/* no speculation past the return */
	isb

from_guest:					/* x0, x1 on the stack; x1: exit code */
	mrs	x0, tpidr_el2
	save_from_2 x0, FRAME_GUEST
	ldp	x2, x3, [sp], #16
	stp	x2, x3, [x0, #FRAME_GUEST]
	ubfx	x0, x0, #12, #6
	bl	guest_trap
	cbz	w0, resume_host
resume_guest:
	load_all FRAME_GUEST
	eret
	dsb	nsh				/* no speculation past the return */
	isb

from_core:					/* x1: vector; the stack may be what failed */
	mrs	x0, tpidr_el2
	ubfx	x0, x0, #12, #6
	adrp	x2, stacks
	add	x3, x0, #1
	add	x2, x2, x3, lsl #STACK_SHIFT
	mov	sp, x2
	bl	core_trap
	b	halt_machine
