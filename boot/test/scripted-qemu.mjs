#!/usr/bin/env node
/**
 * Stands in for QEMU in tests: speaks its control protocol on descriptor 3, and does what $SCRIPT says once it is told to go on,
 * a word after another: `say:TEXT`, `wait:MS`, `event:NAME:REASON`, `exit:STATUS`, `stay`. With `refuse:TEXT` first it refuses to start.
 */
import { writeFileSync } from "node:fs";
import { Socket } from "node:net";

if (process.argv.includes("--version")) {
  console.log("QEMU emulator version 9.0.0");
  process.exit(0);
}
if (process.env.PIDFILE) writeFileSync(process.env.PIDFILE, `${process.pid}`);
const words = (process.env.SCRIPT ?? "stay").split("|");
if (words[0]?.startsWith("refuse:")) {
  console.error(`qemu-system-aarch64: ${words[0].slice(7)}`);
  process.exit(1);
}
const control = new Socket({ fd: 3 });
const send = (message) => control.write(`${JSON.stringify(message)}\n`);
send({ QMP: {} });
let text = "";
control.on("data", (chunk) => {
  text += chunk;
  const lines = text.split("\n");
  text = lines.pop();
  for (const line of lines) {
    const { execute, arguments: args, id } = JSON.parse(line);
    if (execute === "pmemsave") writeFileSync(args.filename, `${args.val}+${args.size}`);
    send({ return: {}, id });
    if (execute === "cont") play();
  }
});

async function play() {
  for (const word of words) {
    const [verb, ...rest] = word.split(":");
    if (verb === "say") process.stdout.write(rest.join(":"));
    if (verb === "wait") await new Promise((resolve) => setTimeout(resolve, Number(rest[0])));
    if (verb === "event") send({ event: rest[0], data: { guest: true, reason: rest[1] } });
    if (verb === "die") process.stderr.write(rest.join(":"));
    if (verb === "exit") process.exit(Number(rest[0]));
  }
}
