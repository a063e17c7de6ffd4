// --- words: what to notice in each section, captions, and what was measured ------------------------------------------

const EXERCISES = {
  space: "exercises/01_latent_space.md", path: "exercises/02_interpolation.md", convolution: "exercises/03_convolution.md",
  elbo: "exercises/04_kl_and_elbo.md", noise: "exercises/05_reparameterization.md", collapse: "exercises/06_beta_and_collapse.md",
  rate: "exercises/07_rate_distortion.md", weights: "exercises/08_importance_weighting.md", label: "exercises/09_conditional.md",
};

function notice(id, text, ...exercises) {
  const files = exercises.flatMap((name, k) => [k ? " and " : "", make("code", { textContent: EXERCISES[name] })]);
  element(id).append(make("p", {}, make("strong", { textContent: "Notice. " }), text, " Work on it in ", ...files, "."));
}

function write_notices() {
  const idle = run.active.some((used) => !used);
  if (is_ae()) {
    notice("notice-plane", "The codes fill no particular shape: nothing draws them to the origin or to a scale of 1. Go to a gap between two clusters and see what the decoder makes of a place that no training image had.", "space");
    notice("notice-encode", "Each image gets one point and no spread. Draw something unlike the training images: it gets a point too, and comes back as something like them.", "elbo");
  } else if (run.classes) {
    notice("notice-plane", "The classes lie over one another: the label is given, so z need not say it, and holds the style. Keep the point and change the class: the style stays.", "label");
    notice("notice-encode", "Give the encoder a wrong class for the picked image: recon rises, for the model is asked to explain the image as something it is not. Resample eps: the picture hardly changes inside the ellipse.", "label", "noise");
  } else {
    notice("notice-plane", "The encoder never saw a label, yet classes gather, and between two of them the image changes without a break. Outside the prior\u2019s circles the decoder was hardly ever asked." + (idle ? " Move a slider marked inactive: hardly anything changes." : ""), "space", ...(idle ? ["collapse"] : []));
    notice("notice-encode", "The ellipses are one and two sigma of q(z|x). Resample eps: the point jumps inside them, and the picture hardly changes; that is how precisely z is known. kl is what the code costs, recon what it leaves unsaid. Then draw something unlike the training images.", ...(run.samples > 1 ? ["weights"] : []), "elbo", "noise");
  }
  notice("notice-between", "Halfway between two classes look for an image that is neither. In many dimensions the straight line dips towards the origin, where few samples of the prior lie; slerp keeps its distance. Does it show?", "path");
  notice("notice-network", "Each convolution halves the side, 28, 14, 7, and has more maps to say what is there: the first still shows shapes and edges, the second no picture any more. A ReLU answers many places with 0. The decoder goes back the same way.", "convolution");
}

/** "What is wrong here": shown when no dimension, or hardly any, carries something. */
function write_collapse() {
  const used = run.active.filter(Boolean).length, few = run.latent_dim >= 5 && used <= run.latent_dim / 5;
  if (is_ae() || (used > 0 && !few)) return;
  element("collapse").hidden = false;
  const [cause, remedy] = used
    ? [`Only ${used} of ${run.latent_dim} latent dimensions ${used === 1 ? "is" : "are"} active: the others have the prior as their posterior, and their sliders change nothing.`,
       "Ask whether the data needs more, or whether the KL is priced too high."]
    : ["The posterior has collapsed: q(z|x) is the prior for every image, kl is near 0, and the decoder ignores z. Move the point: the picture stays the average image.",
       "A smaller beta, annealing or free bits bring z back."];
  element("collapse-text").append(`${cause} ${remedy} Work on it in `, make("code", { textContent: EXERCISES.collapse }), ".");
}

function write_texts() {
  const Z = run.latent_dim, terms = run.test;
  const reached = is_ae() ? `recon ${number(terms.recon)} nats` : `\u2212elbo ${number(terms.recon + terms.kl)} nats`;
  element("kicker").textContent = [run.title, `Z = ${Z}`, run.dataset, `${reached} per ${run.shown}`].join("  \u00b7  ");
  element("lead").textContent = `This ${is_ae() ? "autoencoder" : "variational autoencoder"} holds an image of 784 pixels in ${Z === 1 ? "1 number" : `${Z} numbers`}. Drag the point: the decoder draws what it makes of that place.`;
  element("plane-caption").textContent =
    (Z === 1 ? "The latent line: mu runs to the right, classes stand above one another." : Z === 2 ? "The latent plane." : `Two of ${Z} dimensions; beneath, the others stay where their sliders are.`) +
    ` Dots are the ${is_ae() ? "codes" : "posterior means"} of ${images.length.toLocaleString("en")} ${run.shown}s; beneath them, what the decoder draws at each place.`;
  for (const node of document.querySelectorAll(".shown")) {
    node.textContent = node.textContent.replace("test image", run.shown).replace("Test image", capital(run.shown));
  }
  element("encode-title").textContent = is_ae() ? "From an image to its code" : "From an image to its posterior";
  element("encode-intro").textContent = is_ae()
    ? "The encoder turns an image into one point z; the decoder turns it back."
    : "The encoder turns an image into a mean mu and a spread sigma for each latent dimension. One z is drawn from there and decoded.";
  if (run.binary) element("encode-intro").textContent += " The model was trained on pixels of 0 and 1, so x is cut at one half.";
  element("posterior-caption").textContent = is_ae() ? "z = mu on the plane." : "q(z|x) on the plane: ellipses of one and two sigma; the ring is z = mu + sigma eps.";
  element("reconstruction-caption").textContent = run.likelihood === "gaussian" ? "sigmoid(x_logits): the mean of a Gaussian for each pixel." : "sigmoid(x_logits): for each pixel the probability of ink.";
  element("about").textContent =
    `${run.title}, ${Object.values(params).reduce((sum, value) => sum + value.length, 0).toLocaleString("en")} parameters, ${run.trained}. ` +
    `Measured on ${terms.images.toLocaleString("en")} ${run.shown}s: recon ${number(terms.recon)}${is_ae() ? "" : `, kl ${number(terms.kl)}, elbo ${number(-terms.recon - terms.kl)}`} nats per image. ` +
    "The page holds the weights as float16 and computes everything itself; it sends nothing and fetches nothing. Its model is numpy/vae_numpy.py told again in JavaScript." +
    (run.shown === "sample" ? ` The samples are what the model draws from its prior: ${run.dataset} was not at hand.` : "");
}
