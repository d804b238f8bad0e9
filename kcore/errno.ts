/** Linux error numbers and PSCI and SMCCC return values, negative as the host sees them. */
export const EPERM: i64 = -1;
export const ENOENT: i64 = -2;
export const ENOMEM: i64 = -12;
export const EBUSY: i64 = -16;
export const EEXIST: i64 = -17;
export const EINVAL: i64 = -22;
/** A host call that has more to do: the host makes it again. */
export const ERESTART: i64 = -85;

export const SMCCC_RET_NOT_SUPPORTED: i64 = -1;
export const PSCI_RET_NOT_SUPPORTED: i64 = -1;
export const PSCI_RET_INVALID_PARAMS: i64 = -2;
export const PSCI_RET_ALREADY_ON: i64 = -4;
