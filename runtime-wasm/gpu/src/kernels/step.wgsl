// What changes from one pass to the next.
struct Step {
    // Columns (tokens) of this pass, C.
    columns: u32,
    // Position of the first of them.
    first: u32,
}

@group(0) @binding(0) var<uniform> step: Step;
