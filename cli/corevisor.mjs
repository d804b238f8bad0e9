#!/usr/bin/env node
/**
 * The `corevisor` command: installs the npm packages on first use, then runs main.ts.
 */
import "./install.mjs";

const { register } = await import("tsx/esm/api");
register();
const { main } = await import("./main.ts");
process.exitCode = await main(process.argv.slice(2));
