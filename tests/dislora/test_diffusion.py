import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler

from d2plan.dislora.diffusion import diffuse_latents, make_target
from d2plan.errors import InputError


def _latents() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(4, 3, 4, 4, generator=generator) for _ in range(2))
    return latents, noise


def _euler(zero_snr: bool) -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=zero_snr
    )


@pytest.mark.parametrize("zero_snr", [False, True])
def test_training_shows_the_unet_what_euler_shows_it_at_inference(zero_snr: bool) -> None:
    latents, noise = _latents()
    scheduler = _euler(zero_snr)
    scheduler.set_timesteps(20)
    for step, timestep in enumerate(scheduler.timesteps[:-1]):
        if float(timestep) != int(timestep):
            continue
        kept = scheduler.alphas_cumprod[int(timestep)].repeat(4)
        mixed = latents + noise * scheduler.sigmas[step]
        shown = scheduler.scale_model_input(mixed, timestep)
        scheduler._step_index = None
        torch.testing.assert_close(diffuse_latents(latents, noise, kept), shown, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_perfect_answer_leads_euler_back_to_the_latents(zero_snr: bool, prediction_type: str) -> None:
    latents, noise = _latents()
    scheduler = EulerDiscreteScheduler.from_config(_euler(zero_snr).config, prediction_type=prediction_type)
    scheduler.set_timesteps(10)
    # From noise alone (the first step without signal) an answer in noise cannot say what the latents are.
    step = 1 if zero_snr else 0
    timestep = scheduler.timesteps[step]
    kept = scheduler.alphas_cumprod[int(timestep)].repeat(4)
    target = make_target(prediction_type, latents, noise, kept)
    result = scheduler.step(target, timestep, latents + noise * scheduler.sigmas[step])
    torch.testing.assert_close(result.pred_original_sample, latents, rtol=1e-3, atol=1e-3)


def test_mix_and_velocity_equal_those_of_diffusers() -> None:
    latents, noise = _latents()
    oracle = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    timesteps = torch.tensor([0, 10, 500, 999])
    kept = oracle.alphas_cumprod[timesteps]
    torch.testing.assert_close(diffuse_latents(latents, noise, kept), oracle.add_noise(latents, noise, timesteps))
    velocity = make_target("v_prediction", latents, noise, kept)
    torch.testing.assert_close(velocity, oracle.get_velocity(latents, noise, timesteps))


def test_the_target_of_a_noise_or_sample_base_is_the_noise_or_the_latents() -> None:
    latents, noise = _latents()
    kept = torch.full((4,), 0.5)
    assert make_target("epsilon", latents, noise, kept) is noise
    assert make_target("sample", latents, noise, kept) is latents
    with pytest.raises(InputError, match="flow"):
        make_target("flow", latents, noise, kept)
