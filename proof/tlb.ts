/** TLB invalidation by VMID: after it no TLB holds anything of the VMID that the tables do not say. */
import { bv, type Contract, concat, eq, FALSE, ite, or, type Term } from "../microv/index.ts";
import { vmidOf, vttbrOf } from "./machine.ts";
import { ghost, Stale, setGhost, tlbRoot } from "./state.ts";
import type { Core } from "./theory.ts";

/** What `flushedVmid` is after all of a VMID was flushed. */
export const flushed = (vmid: Term): Term => concat(bv(1, 1), vmid);

export function tlbContracts({ m }: Core): Contract[] {
  return [
    {
      // Waits until walkers see all writes to the tables, and invalidates what any CPU cached for the VMID.
      function: "tlb/tlbFlushVmid",
      parameters: ["vttbr"],
      atReturn: (state, [vttbr]) => setGhost(state, "flushedVmid", flushed(vmidOf(vttbr as Term))),
      spec(c) {
        const [vttbr] = c.args as [Term];
        const stale = ghost(c.before, "stale");
        const is = (...states: Term[]) => or(...states.map((state) => eq(stale, state)));
        c.require("it is VTTBR_EL2 of a root", eq(vttbr, vttbrOf(m, vmidOf(vttbr))));
        c.require("no invalidation is half done", is(Stale.NO, Stale.WRITTEN, Stale.VISIBLE));
        const gone = or(is(Stale.NO), eq(tlbRoot, vmidOf(vttbr)));
        setGhost(c.state, "stale", ite(gone, Stale.NO, Stale.VISIBLE));
        c.can("an entry of another VMID stays", eq(ghost(c.state, "stale"), Stale.VISIBLE));
        c.can("an entry goes", eq(stale, Stale.WRITTEN));
        setGhost(c.state, "unordered", FALSE);
        setGhost(c.state, "flushedVmid", flushed(vmidOf(vttbr)));
      },
    },
  ];
}
