"""Eighty short passages of common knowledge, in our own words, each with a question that says it differently.

Passages come in groups about neighbouring things, so that a question's words alone lead to several of them. Questions
were written to share as few words with their passage as a person would who does not know it.
"""

from __future__ import annotations

Passage = tuple[str, str, str]
"""Title, text, question."""

PASSAGES: tuple[Passage, ...] = (
    # The sky
    (
        "Mercury",
        (
            "Mercury orbits closest to the Sun and completes a revolution in 88 days. With hardly any atmosphere,"
            " its surface swings between scorching noon and freezing night."
        ),
        "Which world has the shortest year around our star?",
    ),
    (
        "Venus",
        (
            "A thick blanket of carbon dioxide traps heat on Venus, making it hotter than any other planet "
            "although it is not the nearest to the Sun."
        ),
        "Where in the solar system is the greenhouse effect so strong that lead would melt?",
    ),
    (
        "Mars",
        "Iron oxide in the dust gives Mars its rusty colour. Its volcano Olympus Mons rises about 22 kilometres.",
        "Why does the fourth planet look red?",
    ),
    (
        "Jupiter",
        "Jupiter outweighs all the other planets together. Its Great Red Spot is a storm wider than the Earth.",
        "Which gas giant hosts a hurricane that has raged for centuries?",
    ),
    (
        "Saturn",
        (
            "The bright rings of Saturn are made of countless pieces of water ice, most of them smaller than a "
            "house, spread into a sheet some tens of metres thick."
        ),
        "What are the hoops around the sixth planet composed of?",
    ),
    (
        "Uranus",
        (
            "Uranus is tipped on its side: its axis lies almost in the plane of its orbit, so each pole has "
            "decades of day followed by decades of night."
        ),
        "Which planet rolls along as if it had been knocked over?",
    ),
    (
        "Neptune",
        (
            "Neptune was found in 1846 where calculations had predicted it, from small irregularities in the "
            "motion of its neighbour."
        ),
        "Which planet did mathematicians discover before anybody saw it?",
    ),
    (
        "Tides",
        (
            "The Moon's pull raises two bulges of water in the oceans; as the Earth turns beneath them, coasts "
            "see high water about twice a day."
        ),
        "What causes the sea to rise and fall at the beach?",
    ),
    (
        "Comets",
        (
            "A comet is a lump of ice and dust. Near the Sun the ice turns to gas and forms a tail, which always "
            "points away from the Sun."
        ),
        "In which direction does the trail of these icy wanderers stretch?",
    ),
    (
        "Eclipses",
        (
            "In a lunar eclipse the Earth stands between Sun and Moon, and sunlight that was bent by our air "
            "paints the Moon copper."
        ),
        "Why does the full moon sometimes turn reddish brown?",
    ),
    # Animals
    (
        "Honeybees",
        (
            "A forager that has found flowers dances in the hive: the angle of her waggle run tells the direction"
            " relative to the Sun, its duration the distance."
        ),
        "How do insects in a colony tell each other where nectar is?",
    ),
    (
        "Bats",
        "Most bats hunt in the dark by emitting calls too high for human ears and listening to the echoes.",
        "How can flying mammals catch moths without seeing them?",
    ),
    (
        "Octopus",
        "An octopus has three hearts, blue blood, and most of its nerve cells in its arms.",
        "Which sea creature pumps its blood with more than one organ and thinks with its limbs?",
    ),
    (
        "Emperor penguins",
        (
            "The male emperor penguin balances the single egg on his feet through the Antarctic winter, fasting "
            "for about two months, while the female is at sea."
        ),
        "Which bird father goes hungry while he keeps his unhatched young warm?",
    ),
    (
        "Arctic terns",
        (
            "Arctic terns breed in the far north and fly to the Antarctic ice edge and back each year, seeing "
            "more daylight than any other animal."
        ),
        "Which migrant travels from pole to pole?",
    ),
    (
        "Cuckoos",
        (
            "The common cuckoo lays its eggs into the nests of smaller birds, whose parents raise the intruder at"
            " the cost of their own brood."
        ),
        "What bird has its offspring brought up by strangers?",
    ),
    (
        "Swifts",
        "Common swifts eat, drink, mate and even sleep on the wing; a young one may not land for two years.",
        "Which bird practically never comes down to the ground?",
    ),
    (
        "Axolotl",
        (
            "The axolotl, a salamander of Mexican lakes, keeps its gills all its life and can regrow lost legs, "
            "tail and parts of its heart."
        ),
        "What amphibian replaces a missing limb?",
    ),
    (
        "Tardigrades",
        (
            "Tardigrades survive drying out by curling into a tun; in that state they have endured vacuum, "
            "radiation and temperatures near absolute zero."
        ),
        "Which tiny beings can live through a trip in outer space?",
    ),
    (
        "Elephants",
        (
            "Elephants talk over kilometres with rumbles below the range of human hearing, which also travel "
            "through the ground."
        ),
        "How do the largest land animals stay in touch over long distances?",
    ),
    (
        "Beavers",
        (
            "Beavers fell trees to dam streams. In the pond behind the dam the entrance of their lodge stays "
            "under water, safe from wolves."
        ),
        "Why does a rodent block rivers with timber?",
    ),
    (
        "Chameleons",
        (
            "A chameleon changes colour mainly to signal mood and to warm or cool itself, by shifting the spacing"
            " of crystals in its skin."
        ),
        "How does a lizard alter the hue of its body?",
    ),
    # The body
    (
        "Red blood cells",
        "Red blood cells carry oxygen bound to haemoglobin. They have no nucleus and live about 120 days.",
        "What takes the gas we breathe in from the lungs to the tissues?",
    ),
    (
        "Insulin",
        "The pancreas releases insulin after a meal, which lets muscle and fat cells take up sugar from the blood.",
        "Which hormone lowers glucose?",
    ),
    (
        "Vitamin C",
        (
            "Without vitamin C the body cannot make sound collagen: gums bleed and old wounds open, the scurvy of"
            " sailors who lived on salted meat."
        ),
        "Why did crews on long voyages fall ill before they carried lemons?",
    ),
    (
        "The inner ear",
        (
            "Three fluid-filled loops in the inner ear sense the turning of the head; when they disagree with the"
            " eyes, people become seasick."
        ),
        "What makes passengers nauseous on a boat?",
    ),
    (
        "Sleep",
        (
            "During deep sleep, fluid flushes waste from the brain, and the hippocampus replays the day's "
            "memories to the cortex."
        ),
        "What good does a night's rest do for what we have learnt?",
    ),
    (
        "Vaccines",
        (
            "A vaccine shows the immune system a harmless piece of a germ, so that memory cells stand ready when "
            "the real one arrives."
        ),
        "How does a jab protect against an illness one has not had?",
    ),
    (
        "Fever",
        (
            "In a fever the body raises its own set temperature, since many germs multiply more slowly in the "
            "heat and defences work faster."
        ),
        "Is it useful that we get hot when we are sick?",
    ),
    (
        "Fingerprints",
        (
            "The ridges of the fingertips form before birth and are shaped by chance as well as genes; even "
            "identical twins differ."
        ),
        "Can brothers from a single egg be told apart by the marks their hands leave?",
    ),
    # Earth
    (
        "Plate tectonics",
        (
            "The Earth's crust is broken into plates that move a few centimetres a year, about as fast as "
            "fingernails grow. Where they grind past each other, earthquakes happen."
        ),
        "Why does the ground shake in some regions?",
    ),
    (
        "The Dead Sea",
        (
            "The Dead Sea has no outlet. Water leaves it only as vapour, so salt has gathered to ten times that "
            "of the ocean, and bathers float like corks."
        ),
        "In which lake is it almost impossible to sink?",
    ),
    (
        "The Sahara",
        (
            "A few thousand years ago the Sahara was green, with lakes and hippos; small shifts of the Earth's "
            "axis moved the monsoon away."
        ),
        "Was the great desert of northern Africa always dry?",
    ),
    (
        "Geysers",
        (
            "In a geyser, groundwater is heated under pressure in a narrow channel until some of it flashes to "
            "steam and throws out the rest."
        ),
        "What makes hot springs erupt at intervals?",
    ),
    (
        "The Gulf Stream",
        "A warm current crosses the Atlantic from the Gulf of Mexico and keeps the harbours of Norway free of ice.",
        "Why are winters in north-western Europe milder than in Labrador?",
    ),
    (
        "The Amazon",
        (
            "The Amazon discharges more water than the next seven largest rivers together and makes the ocean "
            "fresh far out from its mouth."
        ),
        "Which stream carries by far the most water to the sea?",
    ),
    (
        "Coral reefs",
        (
            "Corals are animals that live together with algae. When the sea becomes too warm they expel the "
            "algae, turn white and may starve."
        ),
        "What does it mean when a reef bleaches?",
    ),
    (
        "Lightning",
        (
            "Lightning heats the air around it to about five times the temperature of the Sun's surface; the air "
            "expands as a shock wave, which we hear as thunder."
        ),
        "Where does the bang in a storm come from?",
    ),
    (
        "Permafrost",
        (
            "Ground that stays frozen for years stores the remains of ancient plants. As it thaws, microbes turn "
            "them into carbon dioxide and methane."
        ),
        "Why is melting soil in Siberia a worry for the climate?",
    ),
    (
        "Ozone",
        (
            "High in the stratosphere, ozone absorbs most of the ultraviolet light. Chlorine from old spray cans "
            "and refrigerators destroyed part of it over Antarctica."
        ),
        "Which gas shields us from sunburn, and what damaged it?",
    ),
    # Matter
    (
        "Diamond and graphite",
        (
            "Diamond and graphite are both pure carbon. In the one, each atom is bound to four others in all "
            "directions; in the other, sheets slide over each other."
        ),
        "What do a pencil's lead and a jewel have in common?",
    ),
    (
        "Water's density",
        (
            "Water is densest at four degrees Celsius. Ice floats, and so lakes freeze from the top while fish "
            "survive below."
        ),
        "Why don't ponds freeze solid from the bottom?",
    ),
    (
        "Gold",
        (
            "Gold hardly reacts with anything, which is why coins from ancient wrecks still shine. A gram can be "
            "beaten into a square metre of leaf."
        ),
        "Which metal does not tarnish even after centuries on the seabed?",
    ),
    (
        "Helium",
        "Helium was found in the spectrum of sunlight before anybody had it on Earth, and is named after the Sun.",
        "Which element was first discovered away from our planet?",
    ),
    (
        "Soap",
        (
            "A molecule of soap has one end that likes water and one that likes fat; many of them surround a "
            "droplet of grease and carry it away."
        ),
        "How do detergents get oil off a plate?",
    ),
    (
        "Half-life",
        (
            "Of a radioactive substance, half of the atoms decay in a fixed time. From what is left of carbon-14,"
            " archaeologists tell the age of wood and bones."
        ),
        "How can one find out when an ancient tree was cut?",
    ),
    (
        "Superconductors",
        (
            "Cooled far enough, some metals conduct electricity without any resistance, and push magnetic fields "
            "out, so that a magnet hovers above them."
        ),
        "What happens to a current in certain materials close to absolute zero?",
    ),
    (
        "Semiconductors",
        (
            "Pure silicon hardly conducts. A few foreign atoms, such as phosphorus or boron, give it free "
            "electrons or holes, from which transistors are made."
        ),
        "Why are impurities deliberately added to chips?",
    ),
    # Kitchen
    (
        "Bread",
        "Yeast eats sugar in the dough and breathes out carbon dioxide; gluten holds the bubbles, and the loaf rises.",
        "What makes a dough grow?",
    ),
    (
        "Browning",
        (
            "Above about 140 degrees, amino acids and sugars react and give crust, roasted coffee and seared meat"
            " their colour and smell."
        ),
        "Why does a steak become tasty on a hot pan?",
    ),
    (
        "Onions",
        "Cutting an onion breaks its cells; an enzyme then makes a sulphur gas that forms acid on the eye.",
        "Why do cooks weep when they chop vegetables?",
    ),
    (
        "Mayonnaise",
        "Oil and vinegar do not mix, but lecithin from egg yolk coats the droplets and keeps them from joining.",
        "What stops a creamy dressing from separating?",
    ),
    (
        "Chilli",
        "Capsaicin triggers the nerve endings that report heat. It dissolves in fat, so milk helps and water does not.",
        "What should one drink after biting on something very spicy?",
    ),
    (
        "Cheese",
        "Rennet makes the proteins of milk clot into curd; salt, moulds and time make of it a Camembert or a Parmesan.",
        "How does a liquid from cows turn into something one can slice?",
    ),
    (
        "Tea",
        (
            "Green and black tea come from the same shrub. For black tea the leaves are rolled and left to "
            "oxidise before drying."
        ),
        "What is the difference in the making of the two common kinds of this hot drink?",
    ),
    (
        "Salt",
        (
            "Salt draws water out of cells, so bacteria on salted fish dry up: people preserved food with it long"
            " before refrigerators."
        ),
        "How was cod kept edible for months in the Middle Ages?",
    ),
    # History and art
    (
        "Printing",
        "Around 1450 Johannes Gutenberg in Mainz cast single letters of metal that could be set, inked and used again.",
        "Who made it possible to produce books without scribes in Europe?",
    ),
    (
        "The Rosetta Stone",
        (
            "The Rosetta Stone bears one decree in hieroglyphs, demotic and Greek, which let Champollion read the"
            " script of the pharaohs in 1822."
        ),
        "How did scholars learn to understand Egyptian picture writing?",
    ),
    (
        "Pompeii",
        (
            "In the year 79 Vesuvius buried Pompeii under ash, and with it bakeries, paintings and the hollows "
            "left by its people."
        ),
        "Which Roman town was preserved by a volcano?",
    ),
    (
        "The Great Wall",
        (
            "The best-known parts of the Great Wall of China were built under the Ming dynasty against raids from"
            " the steppe."
        ),
        "Who erected the long fortification in the north of the Middle Kingdom, and why?",
    ),
    (
        "Magna Carta",
        "In 1215 English barons forced King John to seal a charter: nobody, not even the king, stands above the law.",
        "Which medieval document limited a monarch's power?",
    ),
    (
        "The Black Death",
        (
            "Plague reached Europe in 1347 on ships from the Black Sea. Within five years a third or more of the "
            "people had died."
        ),
        "Which epidemic emptied towns in the fourteenth century?",
    ),
    (
        "Longitude",
        "Sailors could not tell how far east or west they were until John Harrison built clocks that kept time at sea.",
        "What invention solved the problem of finding one's position on the ocean?",
    ),
    (
        "Ada Lovelace",
        (
            "In 1843 Ada Lovelace published notes on Babbage's unbuilt engine, with a procedure for computing "
            "Bernoulli numbers, often called the first program."
        ),
        "Who wrote code before there was any machine to run it?",
    ),
    (
        "Beethoven",
        (
            "Beethoven conducted the first performance of his Ninth Symphony in 1824 though he could no longer "
            "hear; a singer turned him to see the applause."
        ),
        "Which composer was deaf at the premiere of his greatest work?",
    ),
    (
        "Hokusai",
        "Hokusai was over seventy when he made the woodcut of a towering wave with Mount Fuji small in the distance.",
        "Who created the famous Japanese picture of the sea?",
    ),
    (
        "Perspective",
        (
            "Painters of the Renaissance learnt to let parallel lines meet in a vanishing point, which gives a "
            "flat panel depth."
        ),
        "How did artists make a two-dimensional picture look like a room?",
    ),
    # Computing
    (
        "Binary",
        (
            "Computers count with two digits because it is easy to tell apart a voltage that is there from one "
            "that is not."
        ),
        "Why do machines use only zero and one?",
    ),
    (
        "Public keys",
        (
            "In public-key cryptography everybody may know the key that locks a message; only its owner has the "
            "one that opens it."
        ),
        "How can strangers send each other secrets without having met?",
    ),
    (
        "Hash functions",
        (
            "A cryptographic hash makes of any data a short number from which nobody can find the data, and which"
            " changes wholly when one bit does."
        ),
        "How can a site check a password that it does not keep?",
    ),
    (
        "Garbage collection",
        "A garbage collector finds the objects that a running program can no longer reach and gives their memory back.",
        "Who frees the space of things that software has forgotten about?",
    ),
    (
        "Packet switching",
        "The internet cuts messages into packets that find their way one by one; what gets lost is sent again.",
        "How does a file survive the failure of a line in the middle of its transfer?",
    ),
    (
        "Version control",
        (
            "A version control system keeps every state of a project with who changed what, and lets people work "
            "on branches side by side."
        ),
        "How do programmers go back to what the source looked like last month?",
    ),
    (
        "Compilers",
        (
            "A compiler translates a whole program into machine instructions before it runs; an interpreter "
            "carries it out line by line."
        ),
        "What turns human-readable code into something a processor executes in advance?",
    ),
    (
        "Floating point",
        (
            "Floating-point numbers have a fixed number of binary digits, so 0.1 has no exact form and sums of "
            "prices can be off by tiny amounts."
        ),
        "Why should one not keep money in a double?",
    ),
    # This project
    (
        "The ledger",
        (
            "Each request to a model is one row of an append-only table; nothing of an answer goes out before "
            "that row's beginning is on disk."
        ),
        "What guarantees that no usage is forgotten when the gateway crashes?",
    ),
    (
        "Nano-dollars",
        (
            "Amounts are kept as whole billionths of a dollar and rounded half-even once, so that sums over any "
            "grouping agree."
        ),
        "In which unit are costs stored to avoid rounding trouble?",
    ),
    (
        "Unpriced models",
        (
            "A model for which nobody has set a price is counted apart and contributes to no sum, instead of "
            "passing as free."
        ),
        "What happens to the bill when a tariff is missing?",
    ),
    (
        "Rollups",
        (
            "Totals per quarter-hour and day are written with each request, so a dashboard over months reads "
            "thousands of rows and not millions."
        ),
        "How can charts of a whole year be drawn quickly?",
    ),
    (
        "Several upstreams",
        "A model is asked of the first server that lists it; an upstream that is down keeps the models it had last.",
        "How does the gateway decide which machine gets a question?",
    ),
)
