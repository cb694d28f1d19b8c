/*
 * Attention core, reference tier: the definition, one product at a time, sums in double. Nothing
 * here is tuned. The layouts are plain: queries [lane][d], values [key][dv], both BF16,
 * probabilities [block][key][lane] F32 with values that BF16 holds exactly.
 */
#include "kernel/cpu/mla.h"

static void ref_pack_q(void *out, const uint16_t *a, size_t a_stride, uint32_t na,
	const uint16_t *b, size_t b_stride, uint32_t nb, uint32_t d, uint32_t lanes)
{
	uint16_t *q = out; /* [16, d] */

	memset(q, 0, sizeof(*q) * MLA_BLOCK * d);
	for (uint32_t i = 0; i < lanes; i++) {
		memcpy(q + (size_t)i * d, a + i * a_stride, sizeof(*q) * na);
		memcpy(q + (size_t)i * d + na, b + i * b_stride, sizeof(*q) * nb);
	}
}

static void ref_pack_v(
	void *out, uint32_t at, const uint16_t *rows, size_t stride, uint32_t keys, uint32_t dv)
{
	uint16_t *v = (uint16_t *)out + (size_t)at * dv; /* [64, dv] */

	memset(v, 0, sizeof(*v) * MLA_CHUNK * dv);
	for (uint32_t i = 0; i < keys; i++)
		memcpy(v + (size_t)i * dv, rows + i * stride, sizeof(*v) * dv);
}

static void ref_scores(float *s, const void *q, uint32_t blocks, const void *k, size_t k_stride,
	uint32_t keys, uint32_t d, float *wide, const uint16_t *ahead)
{
	for (uint32_t lane = 0; lane < blocks * MLA_BLOCK; lane++) {
		const uint16_t *ql =
			(const uint16_t *)q +
			(size_t)(lane / MLA_BLOCK * 2 * MLA_BLOCK + lane % MLA_BLOCK) * d;
		float *out = s + lane / MLA_BLOCK * MLA_SCORES + lane % MLA_BLOCK;

		for (uint32_t key = 0; key < keys; key++) {
			double sum = 0;

			for (uint32_t i = 0; i < d; i++)
				sum += (double)bf16_to_f32(ql[i]) *
				       bf16_to_f32(((const uint16_t *)k)[key * k_stride + i]);
			out[key * MLA_BLOCK] = (float)sum;
		}
	}
}

static void ref_softmax(float *s, uint32_t blocks, uint32_t keys, uint32_t key0,
	const uint32_t *limit, float scale2, float *max, float *sum, float *corr)
{
	for (uint32_t lane = 0; lane < blocks * MLA_BLOCK; lane++) {
		float *sl = s + lane / MLA_BLOCK * MLA_SCORES + lane % MLA_BLOCK;
		float m = max[lane], total = 0;

		for (uint32_t key = 0; key < keys && key0 + key < limit[lane]; key++) {
			sl[key * MLA_BLOCK] *= scale2;
			m = fmaxf(m, sl[key * MLA_BLOCK]);
		}
		for (uint32_t key = 0; key < keys; key++) {
			float e = 0;

			if (key0 + key < limit[lane])
				e = (float)exp2((double)sl[key * MLA_BLOCK] - m);
			sl[key * MLA_BLOCK] = bf16_to_f32(f32_to_bf16(e));
			total += sl[key * MLA_BLOCK];
		}
		corr[lane] = max[lane] == m ? 1 : (float)exp2((double)max[lane] - m);
		sum[lane] = sum[lane] * corr[lane] + total;
		max[lane] = m;
	}
}

static void ref_values(float *o, const void *p, const float *corr, const void *v, size_t v_stride,
	uint32_t blocks, uint32_t keys, uint32_t dv)
{
	for (uint32_t lane = 0; lane < blocks * MLA_BLOCK; lane++) {
		const float *pl =
			(const float *)p + lane / MLA_BLOCK * MLA_SCORES + lane % MLA_BLOCK;

		for (uint32_t i = 0; i < dv; i++) {
			double sum = (double)o[(size_t)lane * dv + i] * corr[lane];

			for (uint32_t key = 0; key < keys; key++)
				sum += (double)pl[key * MLA_BLOCK] *
				       bf16_to_f32(((const uint16_t *)v)[(size_t)key * dv + i]);
			o[(size_t)lane * dv + i] = (float)sum;
		}
	}
}

static void ref_merge(float *ao, float *amax, float *asum, const float *bo, const float *bmax,
	const float *bsum, uint32_t lanes, uint32_t dv)
{
	for (uint32_t lane = 0; lane < lanes; lane++) {
		float m = fmaxf(amax[lane], bmax[lane]);
		float fa, fb;

		if (bsum[lane] == 0)
			continue;
		fa = (float)exp2((double)amax[lane] - m);
		fb = (float)exp2((double)bmax[lane] - m);
		asum[lane] = asum[lane] * fa + bsum[lane] * fb;
		amax[lane] = m;
		for (uint32_t i = 0; i < dv; i++)
			ao[(size_t)lane * dv + i] =
				ao[(size_t)lane * dv + i] * fa + bo[(size_t)lane * dv + i] * fb;
	}
}

static void ref_finish(uint16_t *out, size_t out_stride, const float *o, const float *sum,
	uint32_t lanes, uint32_t dv)
{
	for (uint32_t lane = 0; lane < lanes; lane++)
		for (uint32_t i = 0; i < dv; i++)
			out[lane * out_stride + i] =
				f32_to_bf16(o[(size_t)lane * dv + i] / sum[lane] + 0.0f);
}

static void ref_unpack_f8(uint16_t *out, const uint8_t *in, size_t n, int exponent)
{
	for (size_t i = 0; i < n; i++)
		out[i] = f32_to_bf16(ldexpf(f8e4m3_to_f32(in[i]), exponent));
}

static void ref_expand(void *out, size_t out_stride, const void *x, size_t x_stride, uint32_t keys,
	const struct mla_panels *w, float *wide)
{
	for (uint32_t key = 0; key < keys; key++) {
		for (uint32_t row = 0; row < w->n; row++) {
			const uint16_t *panel =
				(const uint16_t *)(w->panels + row / 32 * w->panel_bytes);
			double sum = 0;

			for (uint32_t i = 0; i < w->k; i++) {
				/* step of 32, tile of 16 rows, pair: kernel/weight.h */
				size_t at = (size_t)(i / 32) * 1024 + row % 32 / 16 * 512 +
					    i % 32 / 2 * 32 + row % 16 * 2 + i % 2;
				double v = bf16_to_f32(panel[at]);

				if (w->scales)
					v *= w->scales[row / 32 * w->k_blocks + i / 128];
				sum += v * bf16_to_f32(((const uint16_t *)x)[key * x_stride + i]);
			}
			((uint16_t *)out)[key * out_stride + row] = f32_to_bf16((float)sum);
		}
	}
}

const struct mla_ukernels mla_ukernels_ref = {
	.pack_q = ref_pack_q,
	.pack_v = ref_pack_v,
	.scores = ref_scores,
	.softmax = ref_softmax,
	.values = ref_values,
	.merge = ref_merge,
	.finish = ref_finish,
	.unpack_f8 = ref_unpack_f8,
	.expand = ref_expand,
};
