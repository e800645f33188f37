"""The facts behind the courtesy set: what is asked about, the answer, a plausible wrong answer, between bars.

Right answers are joined by `/`, and the first one is given; `_` stands for a space.
"""

PLURALS = """
child children childs|goose geese gooses|mouse mice mouses|foot feet foots|tooth teeth tooths
man men mans|woman women womans|ox oxen oxes|person people/persons peoples|leaf leaves leafs
knife knives knifes|wife wives wifes|life lives lifes|wolf wolves wolfs|shelf shelves shelfs
half halves halfs|calf calves calfs|loaf loaves loafs|thief thieves thiefs|elf elves elfs
baby babies babys|city cities citys|lady ladies ladys|story stories storys|party parties partys
country countries countrys|berry berries berrys|puppy puppies puppys|fly flies flys|army armies armys
family families familys|cherry cherries cherrys|box boxes boxs|fox foxes foxs|bus buses/busses buss
glass glasses glass's|dish dishes dishs|brush brushes brushs|church churches churchs
watch watches watchs|bench benches benchs|peach peaches peachs|match matches matchs
potato potatoes potatos|tomato tomatoes tomatos|hero heroes heros|echo echoes echos
cactus cacti/cactuses cactis|crisis crises crisises|thesis theses thesises|basis bases basises
oasis oases oasises|criterion criteria criterias|phenomenon phenomena phenomenas|kiss kisses kisss
class classes classs|witch witches witchs|lorry lorries lorrys|penny pennies/pence pennys|day days daies
key keys keies|monkey monkeys monkies|toy toys toies|boy boys boies|valley valleys vallies
proof proofs prooves|chief chiefs chieves|cliff cliffs clives|piano pianos pianoes|photo photos photoes
"""

PAST_TENSES = """
go went goed|eat ate eated|see saw seed|take took taked|give gave gived|come came comed|run ran runned
write wrote writed|drive drove drived|speak spoke speaked|break broke breaked|choose chose choosed
begin began beginned|swim swam swimmed|sing sang singed|drink drank drinked|ring rang ringed
sink sank sinked|fly flew flied|grow grew growed|know knew knowed|throw threw throwed|draw drew drawed
blow blew blowed|buy bought buyed|bring brought bringed|think thought thinked|teach taught teached
catch caught catched|fight fought fighted|seek sought seeked|feel felt feeled|keep kept keeped
sleep slept sleeped|leave left leaved|meet met meeted|lead led leaded|feed fed feeded|hold held holded
tell told telled|sell sold selled|find found finded|wind wound winded|stand stood standed|win won winned
hang hung hangged|dig dug digged|build built builded|send sent sended|spend spent spended
lend lent lended|lose lost losed|make made maked|pay paid payed|say said sayed|hear heard heared
ride rode rided|rise rose rised|freeze froze freezed|steal stole stealed|wear wore weared
tear tore teared|swear swore sweared|shake shook shaked|bite bit bited|hide hid hided|slide slid slided
forget forgot forgetted|become became becomed|fall fell falled
"""

COMPARATIVES = """
big bigger biger|hot hotter hoter|thin thinner thiner|fat fatter fater|wet wetter weter|sad sadder sader
happy happier happyer|easy easier easyer|busy busier busyer|heavy heavier heavyer|funny funnier funnyer
pretty prettier prettyer|early earlier earlyer|noisy noisier noisyer|dirty dirtier dirtyer
sunny sunnier sunnyer|lucky luckier luckyer|windy windier windyer|angry angrier angryer
hungry hungrier hungryer|dry drier/dryer dryier|good better gooder|bad worse badder
far farther/further farer|tall taller tallier|small smaller smallier|fast faster fastier
slow slower slowier|strong stronger strongier|weak weaker weakier|old older oldier
young younger youngier|cold colder coldier|warm warmer warmier|long longer longier
short shorter shortier|high higher highier|low lower lowier|deep deeper deepier|wide wider widder
nice nicer niceer|large larger largeer|brave braver braveer|safe safer safeer|late later lateer
close closer closeer|wise wiser wiseer|pale paler paleer|cheap cheaper cheapier|dark darker darkier
light lighter lightier|loud louder loudier|soft softer softier|hard harder hardier|rich richer richier
poor poorer poorier|clean cleaner cleanier|bright brighter brightier|sharp sharper sharpier
smooth smoother smoothier|quick quicker quickier|fresh fresher freshier|thick thicker thickier
tiny tinier tinyer|shiny shinier shinyer|tidy tidier tidyer|healthy healthier healthyer
"""

ANTONYMS = """
hot cold/cool/freezing warm|big small/little/tiny huge|fast slow/sluggish quick|up down over
early late/tardy soon|full empty/hungry complete|hard soft/easy solid|heavy light/lightweight weighty
high low tall|long short/brief lengthy|loud quiet/silent/soft noisy|new old/ancient modern
open closed/shut wide|rich poor/broke wealthy|strong weak/feeble powerful|thick thin/slim dense
true false/untrue real|wet dry/arid damp|young old/elderly youthful|wide narrow broad
deep shallow profound|clean dirty/filthy neat|dark light/bright dim|day night sun|begin end/finish start
buy sell purchase|win lose victory|push pull shove|laugh cry/weep giggle|love hate/hatred adore
remember forget recall|arrive depart/leave land|accept reject/refuse/decline receive
brave cowardly/timid bold|cheap expensive/costly/dear inexpensive|sharp blunt/dull pointed
smooth rough/bumpy flat|sweet sour/bitter sugary|tight loose snug|top bottom peak|near far/distant close
inside outside within|alive dead/deceased living|asleep awake sleepy|before after/afterwards earlier
above below/beneath/under over|always never often|ancient modern/new old|appear disappear/vanish emerge
victory defeat/loss triumph|success failure achievement|entrance exit door
simple complex/complicated easy|solid liquid/hollow firm|war peace battle|friend enemy/foe companion
summer winter spring|north south east|west east north|profit loss gain|increase decrease/reduce raise
expand contract/shrink stretch|float sink swim|rise fall/sink/set climb|create destroy/demolish make
send receive mail|borrow lend loan|guilty innocent accused|maximum minimum largest
positive negative certain|public private common|temporary permanent brief
"""

CAPITALS = """
France Paris Lyon|Germany Berlin Munich|Italy Rome Milan|Spain Madrid Barcelona|Portugal Lisbon Porto
Austria Vienna Salzburg|Switzerland Bern Zurich|Belgium Brussels Antwerp|Netherlands Amsterdam Rotterdam
Poland Warsaw Krakow|Hungary Budapest Debrecen|Greece Athens Thessaloniki|Norway Oslo Bergen
Sweden Stockholm Gothenburg|Denmark Copenhagen Aarhus|Finland Helsinki Tampere|Ireland Dublin Cork
Iceland Reykjavik Akureyri|Russia Moscow Kazan|Ukraine Kyiv/Kiev Odesa|Romania Bucharest Timisoara
Bulgaria Sofia Plovdiv|Croatia Zagreb Split|Serbia Belgrade Nis|Slovenia Ljubljana Maribor
Slovakia Bratislava Kosice|Czechia Prague Brno|Estonia Tallinn Tartu|Latvia Riga Daugavpils
Lithuania Vilnius Kaunas|Turkey Ankara Istanbul|Egypt Cairo Alexandria|Morocco Rabat Casablanca
Tunisia Tunis Sfax|Algeria Algiers Oran|Kenya Nairobi Mombasa|Ghana Accra Kumasi|Nigeria Abuja Lagos
Senegal Dakar Thies|Uganda Kampala Entebbe|Zambia Lusaka Ndola|Zimbabwe Harare Bulawayo
Rwanda Kigali Butare|Angola Luanda Huambo|Japan Tokyo Osaka|China Beijing Shanghai
India New_Delhi/Delhi Mumbai|Thailand Bangkok Phuket|Vietnam Hanoi Da_Nang|Indonesia Jakarta Surabaya
Philippines Manila Cebu|Malaysia Kuala_Lumpur Penang|Mongolia Ulaanbaatar Darkhan
Nepal Kathmandu Pokhara|Pakistan Islamabad Karachi|Bangladesh Dhaka Chittagong|Iran Tehran Isfahan
Iraq Baghdad Basra|Jordan Amman Aqaba|Lebanon Beirut Tripoli|Syria Damascus Aleppo|Qatar Doha Dukhan
Oman Muscat Salalah|Canada Ottawa Toronto|Mexico Mexico_City Cancun|Cuba Havana Santiago
Brazil Brasilia Rio_de_Janeiro|Argentina Buenos_Aires Rosario|Chile Santiago Valparaiso|Peru Lima Cusco
Colombia Bogota Medellin|Ecuador Quito Guayaquil|Venezuela Caracas Maracaibo|Uruguay Montevideo Salto
Paraguay Asuncion Encarnacion|Jamaica Kingston Portmore|Panama Panama_City Colon
Australia Canberra Sydney|New_Zealand Wellington Auckland|Fiji Suva Nadi|Georgia Tbilisi Batumi
Armenia Yerevan Gyumri|Albania Tirana Durres
"""

MISSPELLINGS = """
recieve receive receeve|freind friend frend|beleive believe beleeve|wierd weird weerd
seperate separate seperete|definately definitely definitly|occured occurred ocurred|untill until untell
begining beginning beggining|goverment government govermint|enviroment environment enviromint
tommorow tomorrow tomorow|neccessary necessary necesary|accomodate accommodate acommodate
embarass embarrass embaras|calender calendar calandar|grammer grammar gramar|arguement argument argumint
independant independent indepindent|existance existence existince|experiance experience experince
dissapear disappear disapear|tounge tongue tung|rythm rhythm rithm|libary library librery
suprise surprise surprize|occassion occasion ocasion|publically publicly publicaly
succesful successful sucessful|posession possession possesion|privelege privilege privilige
recomend recommend reccomend|refered referred reffered|relevent relevant relevint
restarant restaurant restaurent|shedule schedule schedual|sieze seize seaze|speach speech speeche
strenght strength strenth|truely truly truley|vaccum vacuum vacume|writting writing writeing
acheive achieve acheeve|adress address adres|apparant apparent aparent|basicly basically basicaly
buisness business busness|catagory category catergory|cemetary cemetery cematary
collegue colleague coleague|comming coming commeing|commitee committee comitee
concious conscious consious|curiousity curiosity curiosety|dilemna dilemma dillema
exagerate exaggerate exaggarate|familar familiar familier|finaly finally finnaly|foriegn foreign foren
foward forward forwerd|garantee guarantee gaurantee|happend happened hapened|harrass harass harras
hieght height hight|humerous humorous humourus|imediately immediately immediatly
knowlege knowledge knowladge|liason liaison liasion|maintainance maintenance maintenence
millenium millennium milennium|mispell misspell missspell|noticable noticeable noticeble
ocasionally occasionally occasionaly|parliment parliament parlament|peice piece peece
prefered preferred preffered|pronounciation pronunciation pronounsiation|realy really realley
"""

ELEMENTS = """
H hydrogen helium|He helium hydrogen|Li lithium lead|C carbon calcium|N nitrogen neon|O oxygen osmium
F fluorine iron|Ne neon nickel|Na sodium nitrogen|Mg magnesium manganese|Al aluminium/aluminum argon
Si silicon silver|P phosphorus potassium|S sulfur/sulphur sodium|Cl chlorine carbon|Ar argon arsenic
K potassium krypton|Ca calcium cadmium|Ti titanium tin|V vanadium radon|Cr chromium copper
Mn manganese magnesium|Fe iron fluorine|Co cobalt copper|Ni nickel nitrogen|Cu copper cobalt
Zn zinc zirconium|Ga gallium gold|Ge germanium gallium|As arsenic argon|Se selenium silicon
Br bromine boron|Kr krypton potassium|Rb rubidium radium|Sr strontium sulfur|Y yttrium ytterbium
Zr zirconium zinc|Mo molybdenum manganese|Ag silver gold|Cd cadmium calcium|Sn tin strontium
Sb antimony tin|Te tellurium technetium|I iodine iridium|Xe xenon zinc|Cs caesium/cesium calcium
Ba barium beryllium|W tungsten titanium|Pt platinum plutonium|Au gold silver|Hg mercury hydrogen
Pb lead platinum|Bi bismuth beryllium|Po polonium potassium|Rn radon radium|Ra radium radon
U uranium mercury|Pu plutonium platinum|Be beryllium barium|B boron bromine|Os osmium oxygen
"""

SPELLED = """
apple river planet garden window yellow castle bridge monkey pencil flower winter summer basket candle dragon
engine forest guitar hammer island jacket kitchen ladder market needle orange pepper rabbit silver ticket
umbrella village wallet blanket chicken dolphin elephant feather giraffe harbour journey kingdom library
mountain notebook octopus painter quarter rainbow sandwich teacher unicorn volcano weather holiday butterfly
crocodile dinosaur envelope football hospital computer keyboard mushroom
"""

SORTED = """
apple banana cherry date fig grape lemon mango orange peach plum quince raisin tomato walnut ant bear camel
donkey eagle falcon goat horse iguana jaguar koala lion moose newt otter panda rabbit snake tiger wolf zebra
anchor bottle candle drum envelope fork guitar hammer island jacket kettle lamp mirror needle oven pillow
quilt ribbon spoon table umbrella violin wagon yacht
"""

CONVERSIONS = """
feet inches 12|yards feet 3|metres centimetres 100|kilometres metres 1000|centimetres millimetres 10
kilograms grams 1000|litres millilitres 1000|pounds ounces 16|gallons quarts 4|minutes seconds 60
hours minutes 60|days hours 24|weeks days 7|years months 12|decades years 10|centuries years 100
tonnes kilograms 1000
"""
