/**
 * The panel of the playing agents.
 *
 * `mountPlayer(section)` is called once; `show(runs)` whenever the shown runs change, each
 * {id, name, color, state, env, algorithm, checkpoints}.
 */
export function mountPlayer(section) {
  return { show() { section.hidden = true; } };
}
