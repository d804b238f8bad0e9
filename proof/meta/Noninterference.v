(** * From lemmas about single steps to whole executions

    The solver proves lemmas about one step of the machine, each from an arbitrary state (proof/primitives.ts, proof/theorem.ts and
    the contracts beside them). This file proves what they are good for: that in every execution, however long and however the CPUs
    interleave, a principal learns nothing of the others but what it is told on purpose, and nothing of its own is changed.

    It assumes nothing: no axiom, no classical logic, no extensionality. The solver's lemmas are the fields of the records [unwinding],
    [refinement] and [reservation]; beside each stands what discharges it. docs/theorem.md tells the same in prose, and what lies
    between the solver's formulas and these records. Check it with [corevisor verify --meta].

    A layer is the machine seen with some state and some steps. [demand] is what a step must find, as a model of proof/machine.ts
    obliges: for a principal's own access it is what the hardware translates. Everything that a step takes from outside, such as what it
    reads of host memory, is an answer of the data oracles and handed to [step]; so a step is a function. Memories are finite, so
    states whose entries are all equal are equal. *)

From Coq Require Import List.
Import ListNotations.

Section Meta.

Variable principal : Type.
Variable HOST : principal.
Variable is_same : forall P Q : principal, {P = Q} + {P <> Q}.

Record layer := {
  action : Type;
  answers : Type;
  state : Type;
  place : Type; (* A page's word, a register, a mapping: what a view is made of. *)
  value : Type;
  view : principal -> state -> place -> value;
  step : action -> answers -> state -> state;
  demand : action -> state -> Prop;
  invariant : state -> Prop
}.

(** [P] cannot tell [s] from [t]. The solver proves such an equality at one arbitrary place. *)
Definition same (L : layer) (P : principal) (s t : state L) := forall k, view L P s k = view L P t k.

Lemma same_reflexive : forall L P s, same L P s s.
Proof. intros L P s k; reflexivity. Qed.

Lemma same_symmetric : forall L P s t, same L P s t -> same L P t s.
Proof. intros L P s t H k; symmetry; apply H. Qed.

Lemma same_transitive : forall L P s t u, same L P s t -> same L P t u -> same L P s u.
Proof. intros L P s t u H K k; rewrite H; apply K. Qed.

(** ** Executions *)

Definition execution (L : layer) := list (action L * answers L).

Fixpoint after (L : layer) (s : state L) (run : execution L) : state L :=
  match run with
  | [] => s
  | (x, o) :: rest => after L (step L x o s) rest
  end.

(** Each step finds what it demands. [every_demand_is_met] shows it of whatever the CPUs do. *)
Fixpoint legal (L : layer) (s : state L) (run : execution L) : Prop :=
  match run with
  | [] => True
  | (x, o) :: rest => demand L x s /\ legal L (step L x o s) rest
  end.

(** ** The invariants hold in every reachable state

    [kept]: each lemma "... keeps the invariants" of proof/primitives.ts, a primitive at a time. That the first state has them is
    the contract of [boot]. *)

Definition kept (L : layer) := forall x o s, invariant L s -> demand L x s -> invariant L (step L x o s).

Theorem invariants_hold : forall L, kept L ->
  forall run s, invariant L s -> legal L s run -> invariant L (after L s run).
Proof.
  intros L keeps run; induction run as [|[x o] rest IH]; intros s inv ok; simpl in *; [assumption|].
  destruct ok as [needs ok]; apply IH; [apply keeps|]; assumption.
Qed.

(** What a lock guards need not be in order while somebody holds the lock; the invariant is that it is in order while the lock is
    free. [released]: what [release] demands in proof/lock.ts. [untouched]: what guards access to memories in proof/linear.ts and
    proof/machine.ts, which let nobody change what a lock guards without it. Taking a free lock therefore grants what it guards. *)
Theorem free_locks_guard_what_is_in_order : forall (L : layer) (lock : Type) (free : lock -> state L -> bool)
  (in_order : lock -> state L -> Prop)
  (released : forall k x o s, invariant L s -> demand L x s -> free k s = false -> free k (step L x o s) = true ->
    in_order k (step L x o s))
  (untouched : forall k x o s, invariant L s -> demand L x s -> free k s = true -> free k (step L x o s) = true ->
    in_order k s -> in_order k (step L x o s)),
  kept L -> forall k run s, invariant L s -> legal L s run ->
  (free k s = true -> in_order k s) -> free k (after L s run) = true -> in_order k (after L s run).
Proof.
  intros L lock free in_order released untouched keeps k run.
  induction run as [|[x o] rest IH]; intros s inv ok before; simpl in *; [assumption|].
  destruct ok as [needs ok]; apply IH; [apply keeps; assumption|assumption|].
  intro now; destruct (free k s) eqn:was; [apply untouched|apply released]; auto.
Qed.

(** ** Sequential proofs compose to all interleavings

    A CPU is somewhere in its code, [local], and [pc c] says where; what may come next, [moves], depends on that and on the state.
    [asserts c l s] is what the symbolic execution of the code of CPU [c] knows when it is at [l]. *)

Record threads (L : layer) := {
  cpu : Type;
  local : Type;
  is_same_cpu : forall c d : cpu, {c = d} + {c <> d};
  moves : cpu -> local -> state L -> action L -> answers L -> local -> Prop
}.
Arguments cpu {L}.
Arguments local {L}.
Arguments is_same_cpu {L}.
Arguments moves {L}.

(** Any CPU takes the next step, as often as it likes. *)
Inductive executes (L : layer) (T : threads L) :
    (cpu T -> local T) -> state L -> execution L -> (cpu T -> local T) -> state L -> Prop :=
| stops : forall pc s, executes L T pc s [] pc s
| goes_on : forall c x o pc pc1 pc2 s rest s2,
    moves T c (pc c) s x o (pc1 c) ->
    (forall d, d <> c -> pc1 d = pc d) ->
    executes L T pc1 (step L x o s) rest pc2 s2 ->
    executes L T pc s ((x, o) :: rest) pc2 s2.

(** [obliged] and [followed] are the proof of a function against its contract, one CPU at a time: every obligation holds, and what is
    asserted next follows. [stable]: an assertion speaks of nothing but what its CPU holds ([stays] in proof/lock.ts: taking a lock
    gives arbitrary values to all else). [reserved]: a step of another CPU leaves that alone ("other CPUs' primitives leave alone what a
    CPU holds" and the same of stores, proof/rely.ts; no two CPUs hold the same lock, proof/ticketlock.ts). *)
Record reservation (L : layer) (T : threads L) (asserts : cpu T -> local T -> state L -> Prop)
    (untouched : cpu T -> state L -> state L -> Prop) : Prop := {
  obliged : forall c l s x o l', invariant L s -> asserts c l s -> moves T c l s x o l' -> demand L x s;
  followed : forall c l s x o l', invariant L s -> asserts c l s -> moves T c l s x o l' -> asserts c l' (step L x o s);
  stable : forall c l s s', invariant L s' -> asserts c l s -> untouched c s s' -> asserts c l s';
  reserved : forall c d l s x o l', c <> d -> invariant L s -> asserts c l s -> moves T c l s x o l' -> demand L x s ->
    untouched d s (step L x o s)
}.

Theorem every_demand_is_met : forall L T asserts untouched, kept L -> reservation L T asserts untouched ->
  forall pc s run pc2 s2, executes L T pc s run pc2 s2 -> invariant L s -> (forall c, asserts c (pc c) s) ->
  legal L s run /\ s2 = after L s run /\ invariant L s2 /\ (forall c, asserts c (pc2 c) s2).
Proof.
  intros L T asserts untouched keeps R pc s run pc2 s2 E.
  induction E as [|c x o pc pc1 pc2 s rest s2 move others E IH]; intros inv known; simpl; [auto|].
  assert (needs : demand L x s) by (eapply obliged; eauto).
  assert (inv' : invariant L (step L x o s)) by auto.
  destruct IH as (ok & -> & inv2 & known2); [assumption| |auto].
  intro d; destruct (is_same_cpu T d c) as [->|apart].
  - eapply followed; eauto.
  - rewrite (others d apart); eapply stable; eauto; eapply reserved; eauto.
Qed.

(** ** Noninterference

    The policy says on whose behalf a step is taken, whom it [concerns] (its own steps change a principal's view, and so do those that
    give it something or take it away) and what it tells them on purpose, which masks that flow. *)

Record policy (L : layer) := {
  actor : action L -> principal;
  concerns : principal -> action L -> answers L -> state L -> bool;
  news : Type;
  told : action L -> answers L -> state L -> news
}.
Arguments actor {L}.
Arguments concerns {L}.
Arguments news {L}.
Arguments told {L}.

(** The lemmas of proof/theorem.ts about one step, under the names that they have there. *)
Record unwinding (L : layer) (Pi : policy L) : Prop := {
  keeps : kept L;
  (** The step of another leaves my view as it was, unless it is one that concerns me. *)
  integrity : forall P x o s, invariant L s -> demand L x s -> concerns Pi P x o s = false -> same L P s (step L x o s);
  (** First form: what I see afterwards depends on what I and the acting principal see, and on the oracles. *)
  confidentiality : forall P x o s t, invariant L s -> invariant L t -> demand L x s -> demand L x t ->
    same L P s t -> same L (actor Pi x) s t -> same L P (step L x o s) (step L x o t);
  (** Second form: not even on what the acting principal sees, but for what it tells. A page that comes unscrubbed fails here. *)
  masking : forall P x o s t, P <> HOST -> invariant L s -> invariant L t -> demand L x s -> demand L x t ->
    same L P s t -> told Pi x o s = told Pi x o t -> same L P (step L x o s) (step L x o t);
  (** The host, for which the second form is not proved: "what concerns HOST is done by HOST". *)
  host_acts : forall x o s, concerns Pi HOST x o s = true -> actor Pi x = HOST
}.

(** [observers] are principals that put together what they know. Of an execution they witness the steps that concern one of them: what
    was done with which answers, and what it told where an outsider did it. What their own steps result in is in their views. *)
Definition witnessed (L : layer) (Pi : policy L) := (action L * answers L * option (news Pi))%type.

Fixpoint trace (L : layer) (Pi : policy L) (observers : list principal) (s : state L) (run : execution L)
    : list (witnessed L Pi) :=
  match run with
  | [] => []
  | (x, o) :: rest =>
      let seen := if in_dec is_same (actor Pi x) observers then None else Some (told Pi x o s) in
      let more := trace L Pi observers (step L x o s) rest in
      if existsb (fun P => concerns Pi P x o s) observers then (x, o, seen) :: more else more
  end.

Definition agree (L : layer) (observers : list principal) (s t : state L) := forall P, In P observers -> same L P s t.

Lemma unconcerned : forall L Pi, unwinding L Pi -> forall observers x o s, invariant L s -> demand L x s ->
  existsb (fun P => concerns Pi P x o s) observers = false -> agree L observers s (step L x o s).
Proof.
  intros L Pi U observers x o s inv needs none P member; eapply integrity; eauto.
  destruct (concerns Pi P x o s) eqn:C; [|reflexivity].
  rewrite <- none; symmetry; apply existsb_exists; exists P; auto.
Qed.

(** A step that both executions take and of which the observers are told the same. *)
Lemma witnessed_alike : forall L Pi, unwinding L Pi -> forall observers x o s t,
  invariant L s -> invariant L t -> demand L x s -> demand L x t -> agree L observers s t ->
  (In (actor Pi x) observers \/ told Pi x o s = told Pi x o t) -> agree L observers (step L x o s) (step L x o t).
Proof.
  intros L Pi U observers x o s t inv_s inv_t needs needs' alike who P member.
  destruct (in_dec is_same (actor Pi x) observers) as [insider|outsider]; [eapply confidentiality; eauto|].
  destruct who as [insider|news]; [contradiction|].
  destruct (is_same P HOST) as [->|vm]; [|eapply masking; eauto].
  (* No step of an outsider concerns the host. *)
  assert (quiet : forall u, concerns Pi HOST x o u = false).
  { intro u; destruct (concerns Pi HOST x o u) eqn:C; [|reflexivity].
    apply (host_acts _ _ U) in C; rewrite C in outsider; contradiction. }
  eapply same_transitive; [apply same_symmetric; eapply integrity; eauto|].
  eapply same_transitive; [apply alike; assumption|eapply integrity; eauto].
Qed.

(** Whatever else happens, in whatever order, and whatever others know: two executions that start alike for the observers, and of
    which they witness the same, end alike for them. *)
Theorem noninterference : forall L Pi, unwinding L Pi -> forall observers run run' s t,
  invariant L s -> invariant L t -> legal L s run -> legal L t run' -> agree L observers s t ->
  trace L Pi observers s run = trace L Pi observers t run' ->
  agree L observers (after L s run) (after L t run').
Proof.
  intros L Pi U observers run; induction run as [|[x o] rest IH].
  - induction run' as [|[y q] rest' IH']; intros s t inv_s inv_t ok ok' alike traces; simpl in *; [assumption|].
    destruct ok' as [needs ok']; destruct (existsb _ _) eqn:C; [discriminate|].
    apply IH'; auto; [eapply keeps; eauto|].
    intros P member; eapply same_transitive; [apply alike; assumption|eapply unconcerned; eauto].
  - intros run' s; destruct (existsb (fun P => concerns Pi P x o s) observers) eqn:C.
    + (* Witnessed: so the other execution gets to the same step. *)
      induction run' as [|[y q] rest' IH']; intros t inv_s inv_t ok ok' alike traces; simpl in *; rewrite C in *; [discriminate|].
      destruct ok as [needs ok], ok' as [needs' ok'].
      destruct (existsb (fun P => concerns Pi P y q t) observers) eqn:C'.
      * injection traces as -> -> seen traces.
        apply IH; auto; [eapply keeps; eauto|eapply keeps; eauto|].
        eapply witnessed_alike; eauto.
        destruct (in_dec is_same (actor Pi y) observers); [left; assumption|right; congruence].
      * apply IH'; auto; [eapply keeps; eauto|].
        intros P member; eapply same_transitive; [apply alike; assumption|eapply unconcerned; eauto].
    + (* Nobody witnesses it: their views stay. *)
      intros t inv_s inv_t ok ok' alike traces; simpl in *; rewrite C in *; destruct ok as [needs ok].
      apply IH; auto; [eapply keeps; eauto|].
      intros P member; eapply same_transitive; [|apply alike; assumption].
      apply same_symmetric; eapply unconcerned; eauto.
Qed.

(** Integrity of whole executions: as long as nothing concerns [P], its view stays. *)
Corollary what_is_mine_stays : forall L Pi, unwinding L Pi -> forall P run s,
  invariant L s -> legal L s run -> trace L Pi [P] s run = [] -> same L P s (after L s run).
Proof.
  intros L Pi U P run; induction run as [|[x o] rest IH]; intros s inv ok quiet; simpl in *; [apply same_reflexive|].
  destruct ok as [needs ok]; destruct (concerns Pi P x o s) eqn:C; simpl in *; [discriminate|].
  eapply same_transitive; [eapply integrity; eauto|apply IH; auto; eapply keeps; eauto].
Qed.

(** ** Layers

    The layer below does the same with more: entries of tables where the one above has a map, translations that a TLB may still hold.
    [above] is the state of the layer above that a state stands for, and [means] what a step amounts to there: writing the entry of a
    block maps many pages, taking a lock is nothing. [simulates]: what a primitive changes is what these steps change, and they find what
    they demand ("... is a step of the layer", "owners and contents change as the layer says"). [preserves_views] makes the refinement
    preserve security: equal views above imply equal views below. In proof/theorem.ts the state above is made of words of the machine
    below and views are the same words; that the hardware reaches no other is "what a walk ... reaches". *)

Record refinement (A B : layer) (above : state B -> state A) (means : action B -> answers B -> state B -> execution A)
    : Prop := {
  keeps_below : kept B;
  holds_above : forall b, invariant B b -> invariant A (above b);
  simulates : forall x o b, invariant B b -> demand B x b ->
    legal A (above b) (means x o b) /\ after A (above b) (means x o b) = above (step B x o b);
  preserves_views : forall P b b', invariant B b -> invariant B b' -> same A P (above b) (above b') -> same B P b b'
}.

(** What an execution amounts to. *)
Fixpoint meaning {A B : layer} (means : action B -> answers B -> state B -> execution A) (b : state B) (run : execution B)
    : execution A :=
  match run with
  | [] => []
  | (x, o) :: rest => means x o b ++ meaning means (step B x o b) rest
  end.

Lemma after_both : forall L run more s, after L s (run ++ more) = after L (after L s run) more.
Proof. intros L run; induction run as [|[x o] rest IH]; intros more s; simpl; auto. Qed.

Lemma legal_both : forall L run more s, legal L s run -> legal L (after L s run) more -> legal L s (run ++ more).
Proof.
  intros L run; induction run as [|[x o] rest IH]; intros more s ok ok'; simpl in *; [assumption|].
  destruct ok; split; auto.
Qed.

Lemma execution_above : forall A B above means, refinement A B above means -> forall run b, invariant B b -> legal B b run ->
  legal A (above b) (meaning means b run) /\ after A (above b) (meaning means b run) = above (after B b run).
Proof.
  intros A B above means ref run; induction run as [|[x o] rest IH]; intros b inv ok; simpl in *; [auto|].
  destruct ok as [needs ok]; destruct (simulates _ _ _ _ ref x o b inv needs) as [first same_state].
  assert (inv' : invariant B (step B x o b)) by (eapply keeps_below; eauto).
  destruct (IH _ inv' ok) as [rest_ok ends]; rewrite <- same_state in rest_ok, ends.
  split; [apply legal_both; assumption|rewrite after_both; assumption].
Qed.

Theorem layers_compose : forall A B C above means above' means',
  refinement A B above means -> refinement B C above' means' ->
  refinement A C (fun c => above (above' c)) (fun x o c => meaning means (above' c) (means' x o c)).
Proof.
  intros A B C above means above' means' AB BC; split.
  - eapply keeps_below; eauto.
  - intros c inv; eapply holds_above; eauto; eapply holds_above; eauto.
  - intros x o c inv needs; destruct (simulates _ _ _ _ BC x o c inv needs) as [ok <-].
    eapply execution_above; eauto; eapply holds_above; eauto.
  - intros P c c' inv inv' alike; eapply preserves_views; eauto.
    eapply preserves_views; [exact AB| | |exact alike]; eapply holds_above; eauto.
Qed.

(** What is proved of the layer above holds of the layer below. *)
Theorem noninterference_below : forall A Pi B above means, unwinding A Pi -> refinement A B above means ->
  forall observers run run' b b', invariant B b -> invariant B b' -> legal B b run -> legal B b' run' ->
  agree A observers (above b) (above b') ->
  trace A Pi observers (above b) (meaning means b run) = trace A Pi observers (above b') (meaning means b' run') ->
  agree B observers (after B b run) (after B b' run').
Proof.
  intros A Pi B above means U ref observers run run' b b' inv inv' ok ok' alike traces P member.
  destruct (execution_above _ _ _ _ ref run b inv ok) as [oka ends].
  destruct (execution_above _ _ _ _ ref run' b' inv' ok') as [oka' ends'].
  assert (keepsB : kept B) by (eapply keeps_below; eauto).
  eapply preserves_views; [exact ref| | |rewrite <- ends, <- ends']; try (apply invariants_hold; assumption).
  eapply noninterference; eauto; eapply holds_above; eauto.
Qed.

(** ** All of it together

    CPUs run the core's code and whatever principals please, in any interleaving, on a machine [B] that is seen from above as [A]. *)
Theorem noninterference_of_the_machine : forall A Pi B above means T asserts untouched,
  unwinding A Pi -> refinement A B above means -> reservation B T asserts untouched ->
  forall observers pc pc2 pc' pc2' run run' b b2 b' b2',
  executes B T pc b run pc2 b2 -> executes B T pc' b' run' pc2' b2' ->
  invariant B b -> invariant B b' -> (forall c, asserts c (pc c) b) -> (forall c, asserts c (pc' c) b') ->
  agree A observers (above b) (above b') ->
  trace A Pi observers (above b) (meaning means b run) = trace A Pi observers (above b') (meaning means b' run') ->
  agree B observers b2 b2'.
Proof.
  intros A Pi B above means T asserts untouched U ref res observers pc pc2 pc' pc2' run run' b b2 b' b2' E E'
    inv inv' known known' alike traces.
  assert (keepsB : kept B) by (eapply keeps_below; eauto).
  destruct (every_demand_is_met _ _ _ _ keepsB res _ _ _ _ _ E inv known) as (ok & -> & _).
  destruct (every_demand_is_met _ _ _ _ keepsB res _ _ _ _ _ E' inv' known') as (ok' & -> & _).
  eapply noninterference_below; eauto.
Qed.

End Meta.

(** ** The hypotheses can be met, and the second form is needed

    A machine of one host and one VM, a word each. Everybody writes its own word, from an oracle; and the host gives the VM a word,
    which is scrubbed, or is not. With the scrub every lemma holds. Without it every lemma but the second form does, and the VM learns
    the host's word although no step told it: a proof that leaves the second form out would accept that machine. *)

Inductive who := Host | Vm.
Inductive what := Writes (P : who) | Gives.

Definition same_who (P Q : who) : {P = Q} + {P <> Q}.
Proof. decide equality. Defined.

Definition tiny (scrubs : bool) : layer who := {|
  action := what; answers := nat; state := nat * nat; place := unit; value := nat;
  view := fun P s _ => match P with Host => fst s | Vm => snd s end;
  step := fun x o s => match x with
    | Writes Host => (o, snd s)
    | Writes Vm => (fst s, o)
    | Gives => (fst s, if scrubs then 0 else fst s)
    end;
  demand := fun _ _ => True;
  invariant := fun _ => True
|}.

Definition rules (scrubs : bool) : policy who (tiny scrubs) := {|
  actor := fun x : action _ (tiny scrubs) => match x with Writes P => P | Gives => Host end;
  concerns := fun P x _ _ => match x with Writes Q => if same_who P Q then true else false | Gives => true end;
  news := unit;
  told := fun _ _ _ => tt
|}.

Ltac by_cases := repeat match goal with P : who |- _ => destruct P | x : what |- _ => destruct x end;
  unfold same in *; simpl in *; intros; try congruence; auto.

Example scrubbing_meets_the_hypotheses : unwinding who Host (tiny true) (rules true).
Proof. split; [intros x o s|intros P x o s|intros P x o s t|intros P x o s t|intros x o s]; simpl in x; by_cases. Qed.

Example without_scrub_all_else_holds :
  let L := tiny false in let Pi := rules false in
  kept who L /\
  (forall P x o s, concerns _ _ Pi P x o s = false -> same _ L P s (step _ L x o s)) /\
  (forall P x o s t, same _ L P s t -> same _ L (actor _ _ Pi x) s t -> same _ L P (step _ L x o s) (step _ L x o t)) /\
  (forall x o s, concerns _ _ Pi Host x o s = true -> actor _ _ Pi x = Host).
Proof.
  split; [intros x o s|split; [intros P x o s|split; [intros P x o s t|intros x o s]]]; simpl in x; by_cases.
Qed.

Example and_yet_the_vm_learns_the_secret :
  let L := tiny false in let s := (1, 0) in let t := (2, 0) in let run := [(Gives, 0)] in
  same _ L Vm s t /\ trace _ same_who L (rules false) [Vm] s run = trace _ same_who L (rules false) [Vm] t run /\
  ~ same _ L Vm (after _ L s run) (after _ L t run).
Proof. repeat split; intro leak; specialize (leak tt); discriminate. Qed.

(** Each says "Closed under the global context": it rests on no axiom, and nothing is left out. *)
Print Assumptions noninterference_of_the_machine.
Print Assumptions free_locks_guard_what_is_in_order.
Print Assumptions what_is_mine_stays.
Print Assumptions layers_compose.
