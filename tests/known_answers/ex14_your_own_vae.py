"""Answers to exercise 14 whose verdict is known; see test_exercise_solutions.py."""

CONV1 = "nn.Conv2d(1, 32, 3, stride=2, padding=1)"
CONV2 = "nn.Conv2d(32, 64, 3, stride=2, padding=1)"
DECONV1 = "nn.ConvTranspose2d(64, 32, 3, **up)"
FC = "nn.Linear(64 * 7 * 7, 256)"
LOGVAR = '"logvar": nn.Linear(256, latent_dim)'
UP = "up = dict(stride=2, padding=1, output_padding=1)"
FIRST = 'h = F.relu(self.encoder["conv1"](x))'
SECOND = 'h = F.relu(self.encoder["conv2"](h))'
THIRD = 'h = F.relu(self.encoder["fc"](h.flatten(1)))'
HEADS = 'return self.encoder["mu"](h), self.encoder["logvar"](h)'
INTO = 'h = F.relu(self.decoder["fc1"](z))'
SHAPED = 'h = F.relu(self.decoder["fc2"](h)).reshape(-1, 64, 7, 7)'
LAST = 'return self.decoder["deconv2"](h)'

Z = "z = mu + torch.exp(0.5 * logvar) * eps"
BCE = 'F.binary_cross_entropy_with_logits(x_logits, x, reduction="none").sum(dim=(1, 2, 3))'
KL = "0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar).sum(dim=1)"
LOSS = "(recon + kl).mean()"

DATA = "torch.from_numpy(images).float() / 255"
ADAM = "torch.optim.Adam(model.parameters(), lr=2e-3)"
EPOCHS = "for _ in range(epochs):"
BATCHES = "torch.randperm(len(data)).split(batch_size)"
CALL = "_, _, loss = objective(model, data[index], torch.randn(len(index), model.latent_dim))"
NOISE = "torch.randn(len(index), model.latent_dim)"
ZERO = "            adam.zero_grad()\n"
BACKWARD = "            loss.backward()\n"
STEP = "            adam.step()\n"

WRONG = (
    # the network
    ("self.encoder = nn.ModuleDict(\n            {", "self.encoder = dict(\n            {", "no encoder.conv1"),
    ("self.encoder = nn.ModuleDict(", "self.enc = self.encoder = nn.ModuleDict(", "but enc."),
    ('"conv1": nn', '"first": nn', "encoder.first"),
    (CONV1, CONV1.replace("padding=1", "padding=1, bias=False"), "each with a bias"),
    (CONV2, CONV2.replace("32, 64", "32, 32"), "shape (64, 32, 3, 3)"),
    (FC, "nn.Linear(256, 64 * 7 * 7)", "changed places"),
    (DECONV1, DECONV1.replace("64, 32", "32, 64"), "changed places"),
    (LOGVAR, LOGVAR.replace("latent_dim", "20"), "encoder.logvar.weight of VAE(latent_dim=4)"),
    ("latent_dim=20):", "latent_dim=2):", "VAE(latent_dim=20)"),
    ("class VAE(nn.Module):", "class VAE:", "an nn.Module"),
    (CONV1, CONV1.replace("stride=2, ", ""), "Its stride is (1, 1), not (2, 2)"),
    (CONV2, CONV2.replace("padding=1", "padding=0"), "Its padding is (0, 0), not (1, 1)"),
    (UP, UP.replace("output_padding=1", "output_padding=0"), "Its output_padding is (0, 0), not (1, 1)"),
    (FIRST, 'h = self.encoder["conv1"](x)', "ReLU after encoder.conv1 is missing"),
    (SECOND, 'h = self.encoder["conv2"](h)', "ReLU after encoder.conv2 is missing"),
    (THIRD, THIRD.replace("F.relu(", "torch.tanh("), "What goes into encoder.mu"),
    (THIRD, THIRD.replace("h.flatten(1)", "h.permute(0, 2, 3, 1).flatten(1)"), "another order"),
    (THIRD, THIRD.replace("h.flatten(1)", "h.flatten()"), "What goes into encoder.fc"),
    (HEADS, 'return self.encoder["logvar"](h), self.encoder["mu"](h)', "mu comes first"),
    (HEADS, 'return F.relu(self.encoder["mu"](h)), self.encoder["logvar"](h)', "a ReLU or a maximum too many"),
    (HEADS, 'return self.encoder["mu"](h), torch.exp(0.5 * self.encoder["logvar"](h))', "log sigma^2"),
    (HEADS, 'return self.encoder["mu"](h)', "2 values: mu, logvar"),
    (INTO, 'h = self.decoder["fc1"](z)', "ReLU after decoder.fc1 is missing"),
    (SHAPED, SHAPED.replace("F.relu(", "("), "ReLU after decoder.fc2 is missing"),
    (SHAPED, SHAPED.replace("(-1, 64, 7, 7)", "(-1, 7, 7, 64).permute(0, 3, 1, 2)"), "another order"),
    (LAST, f"{LAST}.sigmoid()", "a sigmoid too many"),
    (LAST, f"{LAST}.flatten(1)", "shape (3, 1, 28, 28)"),
    # the objective
    (Z, "z = mu + torch.exp(logvar) * eps", "the variance"),
    (Z, "z = mu", "noise is not used"),
    (Z, "z = mu + torch.exp(0.5 * logvar) * torch.randn_like(eps)", "draw nothing inside"),
    (Z, "z = mu + torch.exp(0.5 * logvar) * eps[:, :1]", "share one"),
    ("model.encode(x)", "model.encode(x - 0.5)", "the image as it is"),
    (BCE, BCE.replace("(x_logits,", "(x_logits.sigmoid(),"), "sigmoid too many"),
    (BCE, "((x - x_logits.sigmoid()) ** 2).sum(dim=(1, 2, 3))", "squared error"),
    (KL, KL.replace("0.5", "-0.5"), "The sign is turned"),
    (KL, KL.replace(" - 1", ""), "constant -1"),
    (LOSS, "(recon - kl).mean()", "sign turned: the KL"),
    (LOSS, f"{LOSS}.detach()", "cuts the path"),
    (Z, "z = (mu + torch.exp(0.5 * logvar) * eps).detach()", "learns from the KL alone"),
    (Z, "z = mu + torch.exp(0.5 * logvar).detach() * eps", "std is detached"),
    (KL, f"{KL}.detach()", "kl sends no gradient"),
    (f"mu, logvar = model.encode(x)\n    {Z}", f"mu, logvar = model(x)\n    {Z}", "model.encode and model.decode"),
    # the loop
    (DATA, "torch.from_numpy(images).float()", "divide by 255"),
    (DATA, f"{DATA} / 255", "divide by 255"),
    (DATA, f"({DATA}).round()", "divide by 255"),
    (EPOCHS, "for _ in range(1):", "all images"),
    (BATCHES, f"{BATCHES}[:-1]", "left out"),
    (BATCHES, "torch.randint(len(data), (len(data),)).split(batch_size)", "replacement"),
    (BATCHES, "torch.arange(len(data)).split(batch_size)", "that of the file"),
    ("    return model\n", "        return model\n", "early return"),
    (BATCHES, "torch.randperm(len(data), generator=torch.Generator().manual_seed(1)).split(batch_size)", "the same in"),
    (BATCHES, "torch.randperm(len(data)).split(64)", "sizes of the batches"),
    ("    model.train()\n", "", "eval mode"),
    (NOISE, "torch.rand(len(index), model.latent_dim)", "N(0, I)"),
    (NOISE, "torch.zeros(len(index), model.latent_dim)", "again"),
    (NOISE, "torch.randn(1, model.latent_dim)", "noise of its own"),
    (NOISE, "torch.randn(1, model.latent_dim).expand(len(index), -1)", "one row for several"),
    (CALL, f"with torch.no_grad():\n                {CALL}", "does not require grad"),
    (ZERO, "", "zero_grad() is missing"),
    (ZERO + BACKWARD, BACKWARD + ZERO, "before step()"),
    (BACKWARD, "", "before step()"),
    (STEP, "", "once into each batch"),
    (STEP, "        adam.step()\n", "once into each batch"),
    (BACKWARD, "            (-loss).backward()\n", "to fall"),
    (CALL, CALL.replace("_, _, loss", "recon, _, _") + "\n            loss = recon.mean()", "third value"),
    (ADAM, ADAM.replace("model.parameters()", "model.decoder.parameters()"), "all of model.parameters()"),
    (ADAM, ADAM.replace("2e-3", "0.0"), "learning rate above 0"),
    (STEP, f"{STEP}            adam.losses = [*getattr(adam, 'losses', []), loss]\n", "loss.item()"),
    ("    return model\n", "    return loss\n", "the model that it was given"),
    ("    return model\n", "", "is its `return` missing?"),
)

EQUIVALENT = {
    "train: 0.002 -> 0.004 in adam = torch.optim.Adam(model.parameters(), lr=2e-3)": "a rate is asked to reach the bar",
}

ALSO_RIGHT = (
    (FIRST, 'h = torch.relu(self.encoder["conv1"](x)).clone()'),
    (SECOND, 'h = F.relu(self.encoder["conv2"](h), inplace=True)'),
    (SHAPED, 'h = self.decoder["fc2"](h).relu().unflatten(1, (64, 7, 7))'),
    (LAST, 'return F.conv_transpose2d(h, self.decoder["deconv2"].weight, self.decoder["deconv2"].bias, 2, 1, 1)'),
    (BCE, "(F.softplus(x_logits) - x_logits * x).flatten(1).sum(dim=1)"),
    (
        KL,
        "torch.distributions.kl_divergence(torch.distributions.Normal(mu, (logvar / 2).exp()), "
        "torch.distributions.Normal(0 * mu, 1 + 0 * mu)).sum(dim=1)",
    ),
    (Z, "z = torch.distributions.Normal(mu, (logvar / 2).exp()).loc + (logvar / 2).exp() * eps"),
    (ADAM, "torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)"),
    (ADAM, "torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)"),
    (ZERO + BACKWARD + STEP, f"{BACKWARD}{STEP}{ZERO}"),
    (STEP, f"            nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n{STEP}"),
    (BATCHES, "torch.utils.data.DataLoader(range(len(data)), batch_size, shuffle=True)"),
    (STEP, f"{STEP}            loss = loss.item()\n"),
)
