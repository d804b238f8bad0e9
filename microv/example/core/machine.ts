/** The machine that the monitor runs on: its only import. */

/** Fills page `page` with zeroes. */
export declare function page_wipe(page: u32): void;
