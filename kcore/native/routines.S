/*
 * Primitives of more than one instruction: fixed sequences and loops over one page.
 */

	.text

	.global	zero_page			/* (pa): 4096 bytes of zeroes */
zero_page:
	add	x1, x0, #4096
1:	stp	xzr, xzr, [x0], #16
	stp	xzr, xzr, [x0], #16
	stp	xzr, xzr, [x0], #16
	stp	xzr, xzr, [x0], #16
	cmp	x0, x1
	b.lo	1b
	ret

	.global	clean_page			/* (pa): clean and invalidate to the point of coherency */
clean_page:
	mrs	x1, ctr_el0
	ubfx	x1, x1, #16, #4			/* DminLine: log2 of words */
	mov	x2, #4
	lsl	x1, x2, x1
	add	x2, x0, #4096
1:	dc	civac, x0
	add	x0, x0, x1
	cmp	x0, x2
	b.lo	1b
	dsb	sy
	ret

	.global	call_smc			/* (frame): x0..x17 from the frame, x0..x17 to it */
call_smc:
	stp	x29, x30, [sp, #-32]!
	str	x19, [sp, #16]
	mov	x19, x0
	ldp	x0, x1, [x19]
	ldp	x2, x3, [x19, #16]
	ldp	x4, x5, [x19, #32]
	ldp	x6, x7, [x19, #48]
	ldp	x8, x9, [x19, #64]
	ldp	x10, x11, [x19, #80]
	ldp	x12, x13, [x19, #96]
	ldp	x14, x15, [x19, #112]
	ldp	x16, x17, [x19, #128]
	smc	#0
	stp	x0, x1, [x19]
	stp	x2, x3, [x19, #16]
	stp	x4, x5, [x19, #32]
	stp	x6, x7, [x19, #48]
	stp	x8, x9, [x19, #64]
	stp	x10, x11, [x19, #80]
	stp	x12, x13, [x19, #96]
	stp	x14, x15, [x19, #112]
	stp	x16, x17, [x19, #128]
	ldr	x19, [sp, #16]
	ldp	x29, x30, [sp], #32
	ret

	.global	halt_machine			/* PSCI SYSTEM_OFF, and if that fails, stop */
halt_machine:
	dsb	sy
	ldr	x0, =0x84000008
	smc	#0
1:	wfi
	b	1b

	.global	save_fp				/* (image): v0..v31, FPSR, FPCR */
save_fp:
	stp	q0, q1, [x0]
	stp	q2, q3, [x0, #32]
	stp	q4, q5, [x0, #64]
	stp	q6, q7, [x0, #96]
	stp	q8, q9, [x0, #128]
	stp	q10, q11, [x0, #160]
	stp	q12, q13, [x0, #192]
	stp	q14, q15, [x0, #224]
	stp	q16, q17, [x0, #256]
	stp	q18, q19, [x0, #288]
	stp	q20, q21, [x0, #320]
	stp	q22, q23, [x0, #352]
	stp	q24, q25, [x0, #384]
	stp	q26, q27, [x0, #416]
	stp	q28, q29, [x0, #448]
	stp	q30, q31, [x0, #480]
	mrs	x1, fpsr
	str	w1, [x0, #512]
	mrs	x1, fpcr
	str	w1, [x0, #516]
	ret

	.global	load_fp				/* (image) */
load_fp:
	ldp	q0, q1, [x0]
	ldp	q2, q3, [x0, #32]
	ldp	q4, q5, [x0, #64]
	ldp	q6, q7, [x0, #96]
	ldp	q8, q9, [x0, #128]
	ldp	q10, q11, [x0, #160]
	ldp	q12, q13, [x0, #192]
	ldp	q14, q15, [x0, #224]
	ldp	q16, q17, [x0, #256]
	ldp	q18, q19, [x0, #288]
	ldp	q20, q21, [x0, #320]
	ldp	q22, q23, [x0, #352]
	ldp	q24, q25, [x0, #384]
	ldp	q26, q27, [x0, #416]
	ldp	q28, q29, [x0, #448]
	ldp	q30, q31, [x0, #480]
	ldr	w1, [x0, #512]
	msr	fpsr, x1
	ldr	w1, [x0, #516]
	msr	fpcr, x1
	ret

	.arch_extension sve

	.global	save_sve			/* (state, fpsr): z0..z31, p0..p15, FFR to state; FPSR, FPCR to fpsr */
save_sve:
	addvl	x2, x0, #31
	addvl	x2, x2, #1
	str	z0, [x0, #0, mul vl]
	str	z1, [x0, #1, mul vl]
	str	z2, [x0, #2, mul vl]
	str	z3, [x0, #3, mul vl]
	str	z4, [x0, #4, mul vl]
	str	z5, [x0, #5, mul vl]
	str	z6, [x0, #6, mul vl]
	str	z7, [x0, #7, mul vl]
	str	z8, [x0, #8, mul vl]
	str	z9, [x0, #9, mul vl]
	str	z10, [x0, #10, mul vl]
	str	z11, [x0, #11, mul vl]
	str	z12, [x0, #12, mul vl]
	str	z13, [x0, #13, mul vl]
	str	z14, [x0, #14, mul vl]
	str	z15, [x0, #15, mul vl]
	str	z16, [x0, #16, mul vl]
	str	z17, [x0, #17, mul vl]
	str	z18, [x0, #18, mul vl]
	str	z19, [x0, #19, mul vl]
	str	z20, [x0, #20, mul vl]
	str	z21, [x0, #21, mul vl]
	str	z22, [x0, #22, mul vl]
	str	z23, [x0, #23, mul vl]
	str	z24, [x0, #24, mul vl]
	str	z25, [x0, #25, mul vl]
	str	z26, [x0, #26, mul vl]
	str	z27, [x0, #27, mul vl]
	str	z28, [x0, #28, mul vl]
	str	z29, [x0, #29, mul vl]
	str	z30, [x0, #30, mul vl]
	str	z31, [x0, #31, mul vl]
	str	p0, [x2, #0, mul vl]
	str	p1, [x2, #1, mul vl]
	str	p2, [x2, #2, mul vl]
	str	p3, [x2, #3, mul vl]
	str	p4, [x2, #4, mul vl]
	str	p5, [x2, #5, mul vl]
	str	p6, [x2, #6, mul vl]
	str	p7, [x2, #7, mul vl]
	str	p8, [x2, #8, mul vl]
	str	p9, [x2, #9, mul vl]
	str	p10, [x2, #10, mul vl]
	str	p11, [x2, #11, mul vl]
	str	p12, [x2, #12, mul vl]
	str	p13, [x2, #13, mul vl]
	str	p14, [x2, #14, mul vl]
	str	p15, [x2, #15, mul vl]
	rdffr	p0.b
	str	p0, [x2, #16, mul vl]
	ldr	p0, [x2]
	mrs	x3, fpsr
	str	w3, [x1]
	mrs	x3, fpcr
	str	w3, [x1, #4]
	ret

	.global	load_sve			/* (state, fpsr) */
load_sve:
	addvl	x2, x0, #31
	addvl	x2, x2, #1
	ldr	z0, [x0, #0, mul vl]
	ldr	z1, [x0, #1, mul vl]
	ldr	z2, [x0, #2, mul vl]
	ldr	z3, [x0, #3, mul vl]
	ldr	z4, [x0, #4, mul vl]
	ldr	z5, [x0, #5, mul vl]
	ldr	z6, [x0, #6, mul vl]
	ldr	z7, [x0, #7, mul vl]
	ldr	z8, [x0, #8, mul vl]
	ldr	z9, [x0, #9, mul vl]
	ldr	z10, [x0, #10, mul vl]
	ldr	z11, [x0, #11, mul vl]
	ldr	z12, [x0, #12, mul vl]
	ldr	z13, [x0, #13, mul vl]
	ldr	z14, [x0, #14, mul vl]
	ldr	z15, [x0, #15, mul vl]
	ldr	z16, [x0, #16, mul vl]
	ldr	z17, [x0, #17, mul vl]
	ldr	z18, [x0, #18, mul vl]
	ldr	z19, [x0, #19, mul vl]
	ldr	z20, [x0, #20, mul vl]
	ldr	z21, [x0, #21, mul vl]
	ldr	z22, [x0, #22, mul vl]
	ldr	z23, [x0, #23, mul vl]
	ldr	z24, [x0, #24, mul vl]
	ldr	z25, [x0, #25, mul vl]
	ldr	z26, [x0, #26, mul vl]
	ldr	z27, [x0, #27, mul vl]
	ldr	z28, [x0, #28, mul vl]
	ldr	z29, [x0, #29, mul vl]
	ldr	z30, [x0, #30, mul vl]
	ldr	z31, [x0, #31, mul vl]
	ldr	p0, [x2, #16, mul vl]
	wrffr	p0.b
	ldr	p0, [x2, #0, mul vl]
	ldr	p1, [x2, #1, mul vl]
	ldr	p2, [x2, #2, mul vl]
	ldr	p3, [x2, #3, mul vl]
	ldr	p4, [x2, #4, mul vl]
	ldr	p5, [x2, #5, mul vl]
	ldr	p6, [x2, #6, mul vl]
	ldr	p7, [x2, #7, mul vl]
	ldr	p8, [x2, #8, mul vl]
	ldr	p9, [x2, #9, mul vl]
	ldr	p10, [x2, #10, mul vl]
	ldr	p11, [x2, #11, mul vl]
	ldr	p12, [x2, #12, mul vl]
	ldr	p13, [x2, #13, mul vl]
	ldr	p14, [x2, #14, mul vl]
	ldr	p15, [x2, #15, mul vl]
	ldr	w3, [x1]
	msr	fpsr, x3
	ldr	w3, [x1, #4]
	msr	fpcr, x3
	ret
