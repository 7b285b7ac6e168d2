//! What both x86-64 sets leave their modules through: safe functions around those that ask for CPU features.

/// `name = module::inner(arguments)`: a function for [`crate::Kernels`] around one of the set's own.
macro_rules! export {
    ($($name:ident = $module:ident::$inner:ident$(::<$($block:ty),*>)? ($($arg:ident: $ty:ty),*) $(-> $result:ty)?;)*) => {$(
        fn $name($($arg: $ty),*) $(-> $result)? {
            // SAFETY: this function leaves the module through `kernels` of the set's proof
            // alone, and a proof exists only where the CPU has the features that the callee
            // is compiled for.
            unsafe { $module::$inner$(::<$($block),*>)?($($arg),*) }
        }
    )*};
}

/// The products of woven weights, by the set's own `woven`, `block32` and `block_k`.
macro_rules! export_products {
    () => {
        $crate::x86::export! {
            matvec_q4_0_q8 = woven::matvec::<block32::Q4_0, _>(weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]);
            matmul_q4_0_q8 = woven::matmul::<block32::Q4_0, _>(weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]);
            matvec_q4_1_q8 = woven::matvec::<block32::Q4_1, _>(weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]);
            matmul_q4_1_q8 = woven::matmul::<block32::Q4_1, _>(weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]);
            matvec_q5_0_q8 = woven::matvec::<block32::Q5_0, _>(weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]);
            matmul_q5_0_q8 = woven::matmul::<block32::Q5_0, _>(weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]);
            matvec_q5_1_q8 = woven::matvec::<block32::Q5_1, _>(weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]);
            matmul_q5_1_q8 = woven::matmul::<block32::Q5_1, _>(weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]);
            matvec_q8_0_q8 = woven::matvec::<block32::Q8_0, _>(weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]);
            matmul_q8_0_q8 = woven::matmul::<block32::Q8_0, _>(weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]);
            matvec_q4k_q8k = woven::matvec::<block_k::Q4K, _>(weights: Weights<'_>, x: Q8K<'_>, out: &mut [f32]);
            matmul_q4k_q8k = woven::matmul::<block_k::Q4K, _>(weights: Weights<'_>, x: Q8K<'_>, out: &mut [f32]);
            matvec_q5k_q8k = woven::matvec::<block_k::Q5K, _>(weights: Weights<'_>, x: Q8K<'_>, out: &mut [f32]);
            matmul_q5k_q8k = woven::matmul::<block_k::Q5K, _>(weights: Weights<'_>, x: Q8K<'_>, out: &mut [f32]);
            matvec_q6k_q8k = woven::matvec::<block_k::Q6K, _>(weights: Weights<'_>, x: Q8K<'_>, out: &mut [f32]);
            matmul_q6k_q8k = woven::matmul::<block_k::Q6K, _>(weights: Weights<'_>, x: Q8K<'_>, out: &mut [f32]);
        }
    };
}

pub(crate) use {export, export_products};
