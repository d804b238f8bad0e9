/** Tracing for people: an event changes nothing but the ring, and a panic is the end. */
import type { Contract } from "../microv/index.ts";
import type { Core } from "./theory.ts";

export function traceContracts({ m }: Core): Contract[] {
  // The ring, the count of events and the panic record hold nothing that the core reads: no CPU keeps what is there.
  const event = (name: string): Contract => ({
    function: `trace/${name}`,
    parameters: ["cpu", "kind", "a", "b", "c"],
    founding: true,
    forms: { 0: () => m.area },
    spec() {},
  });
  return [
    // Records an event.
    event("trace"),
    // Records an event of the hot path, if the boot tool asked for it.
    event("traceExit"),
    {
      // Writes down where the core stands; nothing happens on this CPU any more.
      function: "trace/panic",
      parameters: ["cpu", "reason", "detail"],
      founding: true,
      forms: { 0: () => m.area },
      spec: (c) => c.diverges(),
    },
  ];
}
