/*
 * Where a bare-metal guest's vCPUs start, its translation tables and its exception vectors. RAM is cached, everything
 * below it is device memory, all by one table of 1 GiB blocks. Interrupts stay masked until the guest unmasks them.
 */
#define STACK_SHIFT	14
#define FRAME		272

	.section .head, "ax"
	.global	_start
_start:						/* the first vCPU; PSCI names no argument */
	mov	x19, xzr
	b	start

	.global	secondary_start
secondary_start:				/* x0: number of the vCPU */
	mov	x19, x0
start:	adrp	x1, stacks
	add	x2, x19, #1
	add	x1, x1, x2, lsl #STACK_SHIFT
	mov	sp, x1
	adr	x1, vectors
	msr	vbar_el1, x1
	mov	x1, #(3 << 20)			/* CPACR_EL1.FPEN */
	msr	cpacr_el1, x1
	msr	tpidr_el1, x19
	ldr	x1, =0xff00			/* MAIR_EL1: 0 device nGnRnE, 1 normal write-back */
	msr	mair_el1, x1
	ldr	x1, =0x200803519		/* TCR_EL1: T0SZ 25, 4 KiB, inner shareable write-back, IPS 40 bits, EPD1 */
	msr	tcr_el1, x1
	adrp	x1, table
	msr	ttbr0_el1, x1
	tlbi	vmalle1
	dsb	nsh
	isb
	ldr	x1, =0x30d0180d			/* SCTLR_EL1: M, C, SA, I and RES1 bits, alignment not checked */
	orr	x1, x1, #(1 << 23)		/* SPAN */
	msr	sctlr_el1, x1
	isb
	cbnz	x19, 1f
	bl	guest_main
	b	2f
1:	mov	x0, x19
	bl	guest_secondary
2:	ldr	w0, =0x84000008			/* PSCI SYSTEM_OFF */
	hvc	#0
	b	2b

	.macro	save_frame
	sub	sp, sp, #FRAME
	stp	x0, x1, [sp]
	stp	x2, x3, [sp, #16]
	stp	x4, x5, [sp, #32]
	stp	x6, x7, [sp, #48]
	stp	x8, x9, [sp, #64]
	stp	x10, x11, [sp, #80]
	stp	x12, x13, [sp, #96]
	stp	x14, x15, [sp, #112]
	stp	x16, x17, [sp, #128]
	stp	x18, x19, [sp, #144]
	stp	x20, x21, [sp, #160]
	stp	x22, x23, [sp, #176]
	stp	x24, x25, [sp, #192]
	stp	x26, x27, [sp, #208]
	stp	x28, x29, [sp, #224]
	mrs	x0, elr_el1
	mrs	x1, spsr_el1
	stp	x30, x0, [sp, #240]
	str	x1, [sp, #256]
	.endm

	.macro	vector handler
	.balign	128
	save_frame
	mov	x0, sp
	bl	\handler
	b	leave
	.endm

	.text
	.balign	2048
vectors:					/* on_unexpected never returns */
	.rept	4
	vector	on_unexpected
	.endr
	vector	on_exception
	vector	on_interrupt
	vector	on_unexpected
	vector	on_unexpected
	.rept	8
	vector	on_unexpected
	.endr
	.balign	128
leave:
	ldp	x30, x0, [sp, #240]
	ldr	x1, [sp, #256]
	msr	elr_el1, x0
	msr	spsr_el1, x1
	ldp	x28, x29, [sp, #224]
	ldp	x26, x27, [sp, #208]
	ldp	x24, x25, [sp, #192]
	ldp	x22, x23, [sp, #176]
	ldp	x20, x21, [sp, #160]
	ldp	x18, x19, [sp, #144]
	ldp	x16, x17, [sp, #128]
	ldp	x14, x15, [sp, #112]
	ldp	x12, x13, [sp, #96]
	ldp	x10, x11, [sp, #80]
	ldp	x8, x9, [sp, #64]
	ldp	x6, x7, [sp, #48]
	ldp	x4, x5, [sp, #32]
	ldp	x2, x3, [sp, #16]
	ldp	x0, x1, [sp]
	add	sp, sp, #FRAME
	eret

	.data
	.balign	4096
table:	.quad	0x00000000 | 0x60000000000401	/* device, never executed, accessed */
	.quad	0x40000000 | 0x705		/* RAM: MAIR 1, inner shareable, accessed */
	.quad	0x80000000 | 0x705
	.fill	509, 8, 0

	.bss
	.balign	(1 << STACK_SHIFT)
stacks:	.space	(8 << STACK_SHIFT)
