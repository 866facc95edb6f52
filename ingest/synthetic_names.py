"""Names for the synthetic card holders and merchants: none of them is of a real person or shop.

Towns are real, with rounded coordinates and populations; a postal code is one near the town's.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WOMEN = _words(
    """
    Ada Agnes Alma Amber Bella Beth Bonnie Carla Cora Daisy Delia Dora Edith Elena Elsa Erin Faye
    Fiona Gail Gloria Grace Hazel Helen Irene Iris Ivy Jane Joan Julia June Karen Kate Lena Lila
    Lucy Mabel Maria Maya Nina Nora Olive Paula Pearl Rita Rosa Ruth Sonia Stella Tina Vera Wanda
    """
)

MEN = _words(
    """
    Aaron Abel Adam Alan Amos Bruno Carl Cecil Clark Dale Dean Derek Earl Eddie Elmer Felix Floyd
    Frank Gary Glen Grant Harold Henry Homer Hugo Ivan Jack Jerome Joel Karl Keith Kurt Leon Louis
    Lyle Marc Miles Neil Noel Oscar Otto Owen Perry Ralph Ray Roy Saul Simon Ted Theo Victor Walt
    """
)

SURNAMES = _words(
    """
    Abbott Alder Archer Ashby Baird Barlow Beck Birch Bishop Blythe Boone Bowen Brandt Brook Bryce
    Calder Carver Chase Clay Cobb Conway Crane Dalton Darby Dawes Devlin Drake Eaton Ellery Emory
    Farrow Fenton Finch Fisk Flint Forbes Frost Gage Garner Glover Goss Hale Harlow Hatch Heath
    Holt Hooper Horne Hume Ingram Jarvis Keane Kerr Kirby Lamb Landry Lowell Marsh Mercer Merritt
    Moody Nash Norwood Oakes Osgood Paige Parr Pike Pratt Quill Radcliff Ramsey Reeve Rhodes Rowan
    Sayer Sloan Snow Stark Storey Sutter Swift Tate Thorne Tilden Tripp Upton Vance Vaughn Wade
    Ware Weir Whitby Wilder Winter Wolfe Wren Yates York Zane
    """
)

STREETS = _words(
    """
    Alder Amber Beacon Birchwood Bridge Canal Cedar Chapel Cherry Church Clover College Copper
    Creek Dogwood Elm Falcon Fern Forest Garden Granite Harbor Hickory Highland Hill Juniper Lake
    Laurel Linden Locust Magnolia Maple Meadow Mill Oak Orchard Park Pine Poplar Prairie Quarry
    River Rose Spring Spruce Station Summit Sycamore Union Valley Walnut Willow
    """
)

STREET_KINDS = ("Avenue", "Court", "Drive", "Lane", "Place", "Road", "Street", "Terrace", "Way")

JOBS = (
    *("Accountant", "Actor", "Architect", "Baker", "Barber", "Beekeeper", "Biologist"),
    *("Bookkeeper", "Bricklayer", "Bus driver", "Butcher", "Carpenter", "Cashier", "Chemist"),
    *("Civil engineer", "Cook", "Dentist", "Economist", "Editor, magazine", "Electrician"),
    *("Engineer, electrical", "Farmer", "Firefighter", "Florist", "Gardener", "Geologist"),
    *("Glazier", "Historian", "Interpreter", "Journalist", "Judge", "Landscape designer"),
    *("Lawyer", "Librarian", "Locksmith", "Mathematician", "Mechanic", "Midwife", "Musician"),
    *("Nurse, children's", "Nurse, intensive care", "Optician", "Painter", "Pharmacist"),
    *("Photographer", "Physicist", "Pilot, airline", "Plumber", "Police officer", "Postal worker"),
    *("Potter", "Printer", "Programmer", "Psychologist", "Roofer", "Sales manager", "Secretary"),
    *("Social worker", "Statistician", "Surgeon", "Surveyor", "Tailor", "Teacher, primary school"),
    *("Teacher, secondary school", "Translator", "Veterinarian", "Waiter", "Warehouse clerk"),
    *("Web designer", "Welder", "Writer", "Zookeeper"),
)

TOWNS: tuple[tuple[str, str, float, float, int, int], ...] = (
    # town, state, latitude, longitude, population, first postal code
    ("New York", "NY", 40.71, -74.01, 8336000, 10001),
    ("Buffalo", "NY", 42.89, -78.88, 278000, 14201),
    ("Ithaca", "NY", 42.44, -76.50, 32000, 14850),
    ("Lake Placid", "NY", 44.28, -73.98, 2200, 12946),
    ("Los Angeles", "CA", 34.05, -118.24, 3899000, 90001),
    ("San Diego", "CA", 32.72, -117.16, 1387000, 92101),
    ("Fresno", "CA", 36.74, -119.79, 542000, 93701),
    ("Eureka", "CA", 40.80, -124.16, 26500, 95501),
    ("Bishop", "CA", 37.36, -118.40, 3800, 93514),
    ("Chicago", "IL", 41.88, -87.63, 2746000, 60601),
    ("Peoria", "IL", 40.69, -89.59, 113000, 61601),
    ("Galena", "IL", 42.42, -90.43, 3300, 61036),
    ("Houston", "TX", 29.76, -95.37, 2305000, 77001),
    ("Austin", "TX", 30.27, -97.74, 962000, 78701),
    ("Amarillo", "TX", 35.22, -101.83, 200000, 79101),
    ("Marfa", "TX", 30.31, -104.02, 1800, 79843),
    ("Phoenix", "AZ", 33.45, -112.07, 1608000, 85001),
    ("Flagstaff", "AZ", 35.20, -111.65, 77000, 86001),
    ("Bisbee", "AZ", 31.45, -109.93, 4900, 85603),
    ("Philadelphia", "PA", 39.95, -75.17, 1604000, 19101),
    ("Erie", "PA", 42.13, -80.09, 95000, 16501),
    ("Jim Thorpe", "PA", 40.88, -75.74, 4500, 18229),
    ("Miami", "FL", 25.76, -80.19, 442000, 33101),
    ("Tallahassee", "FL", 30.44, -84.28, 196000, 32301),
    ("Apalachicola", "FL", 29.73, -84.98, 2300, 32320),
    ("Columbus", "OH", 39.96, -83.00, 906000, 43085),
    ("Dayton", "OH", 39.76, -84.19, 138000, 45401),
    ("Yellow Springs", "OH", 39.81, -83.89, 3700, 45387),
    ("Detroit", "MI", 42.33, -83.05, 639000, 48201),
    ("Marquette", "MI", 46.54, -87.40, 21000, 49855),
    ("Saugatuck", "MI", 42.66, -86.20, 900, 49453),
    ("Atlanta", "GA", 33.75, -84.39, 499000, 30301),
    ("Macon", "GA", 32.84, -83.63, 157000, 31201),
    ("Dahlonega", "GA", 34.53, -83.98, 7500, 30533),
    ("Charlotte", "NC", 35.23, -80.84, 875000, 28201),
    ("Asheville", "NC", 35.60, -82.55, 95000, 28801),
    ("Beaufort", "NC", 34.72, -76.66, 4500, 28516),
    ("Seattle", "WA", 47.61, -122.33, 737000, 98101),
    ("Spokane", "WA", 47.66, -117.43, 229000, 99201),
    ("Leavenworth", "WA", 47.60, -120.66, 2500, 98826),
    ("Denver", "CO", 39.74, -104.99, 716000, 80201),
    ("Durango", "CO", 37.28, -107.88, 19000, 81301),
    ("Ouray", "CO", 38.02, -107.67, 900, 81427),
    ("Boston", "MA", 42.36, -71.06, 676000, 2108),
    ("Pittsfield", "MA", 42.45, -73.25, 44000, 1201),
    ("Rockport", "MA", 42.66, -70.62, 7000, 1966),
    ("Nashville", "TN", 36.16, -86.78, 690000, 37201),
    ("Bristol", "TN", 36.60, -82.19, 27000, 37620),
    ("Portland", "OR", 45.52, -122.68, 653000, 97201),
    ("Bend", "OR", 44.06, -121.32, 99000, 97701),
    ("Joseph", "OR", 45.35, -117.23, 1150, 97846),
    ("Milwaukee", "WI", 43.04, -87.91, 577000, 53201),
    ("Bayfield", "WI", 46.81, -90.82, 580, 54814),
    ("Minneapolis", "MN", 44.98, -93.27, 430000, 55401),
    ("Ely", "MN", 47.90, -91.87, 3270, 55731),
    ("Kansas City", "MO", 39.10, -94.58, 508000, 64101),
    ("Hannibal", "MO", 39.71, -91.36, 17100, 63401),
    ("New Orleans", "LA", 29.95, -90.07, 384000, 70112),
    ("Natchitoches", "LA", 31.76, -93.09, 18000, 71457),
    ("Richmond", "VA", 37.54, -77.44, 226000, 23218),
    ("Floyd", "VA", 36.91, -80.32, 450, 24091),
    ("Salt Lake City", "UT", 40.76, -111.89, 200000, 84101),
    ("Moab", "UT", 38.57, -109.55, 5370, 84532),
    ("Las Vegas", "NV", 36.17, -115.14, 642000, 89101),
    ("Ely", "NV", 39.25, -114.89, 3900, 89301),
    ("Albuquerque", "NM", 35.08, -106.65, 565000, 87101),
    ("Chama", "NM", 36.90, -106.58, 920, 87520),
    ("Omaha", "NE", 41.26, -95.94, 486000, 68101),
    ("Red Cloud", "NE", 40.09, -98.52, 960, 68970),
    ("Des Moines", "IA", 41.59, -93.62, 214000, 50301),
    ("Pella", "IA", 41.41, -92.92, 10500, 50219),
    ("Birmingham", "AL", 33.52, -86.80, 201000, 35201),
    ("Fairhope", "AL", 30.52, -87.90, 22500, 36532),
    ("Oklahoma City", "OK", 35.47, -97.52, 681000, 73101),
    ("Guthrie", "OK", 35.88, -97.43, 10700, 73044),
    ("Wichita", "KS", 37.69, -97.34, 397000, 67201),
    ("Lindsborg", "KS", 38.57, -97.67, 3800, 67456),
    ("Louisville", "KY", 38.25, -85.76, 633000, 40201),
    ("Berea", "KY", 37.57, -84.30, 15500, 40403),
    ("Charleston", "SC", 32.78, -79.93, 150000, 29401),
    ("Newark", "NJ", 40.74, -74.17, 311000, 7102),
    ("Cape May", "NJ", 38.94, -74.91, 2770, 8204),
    ("Burlington", "VT", 44.48, -73.21, 44700, 5401),
    ("Woodstock", "VT", 43.62, -72.52, 3000, 5091),
    ("Portland", "ME", 43.66, -70.26, 68400, 4101),
    ("Lubec", "ME", 44.86, -66.98, 1240, 4652),
    ("Boise", "ID", 43.62, -116.20, 236000, 83701),
    ("Stanley", "ID", 44.22, -114.94, 120, 83278),
    ("Billings", "MT", 45.78, -108.50, 117000, 59101),
    ("Choteau", "MT", 47.81, -112.18, 1720, 59422),
    ("Cheyenne", "WY", 41.14, -104.82, 65000, 82001),
    ("Medora", "ND", 46.91, -103.52, 120, 58645),
    ("Rapid City", "SD", 44.08, -103.23, 75000, 57701),
    ("Deadwood", "SD", 44.38, -103.73, 1160, 57732),
    ("Charleston", "WV", 38.35, -81.63, 48000, 25301),
    ("Thomas", "WV", 39.15, -79.50, 620, 26292),
    ("Jackson", "MS", 32.30, -90.18, 153000, 39201),
    ("Oxford", "MS", 34.37, -89.52, 25400, 38655),
    ("Little Rock", "AR", 34.75, -92.29, 202000, 72201),
    ("Jasper", "AR", 36.01, -93.19, 550, 72641),
)

MERCHANT_STEMS = _words(
    """
    Amberly Arrowline Bayfern Bellmoor Bluegate Brightwell Bronzehill Cedarvale Clearbrook
    Cobaltine Coppergate Dovecrest Driftmark Eastfold Emberlane Fairmeade Fernhollow Foxbridge
    Goldmere Greenloft Halcyra Harborline Hawkstone Ironvale Jadewick Kestrelby Lakemont Larkspurn
    Lowfield Maplecross Meadowry Millstead Moonreach Northwold Oakhaven Opalwood Pinecrest
    Quarrydale Ravenmoor Redlantern Riverhold Saltmarsh Silverbay Stonewick Sunfield Thistledown
    Umberland Vinehill Westmarch Willowby
    """
)

MERCHANT_ENDINGS = {
    "entertainment": "Playhouse",
    "food_dining": "Kitchen",
    "gas_transport": "Fuels",
    "grocery_net": "Pantry Online",
    "grocery_pos": "Market",
    "health_fitness": "Wellness",
    "home": "Furnishings",
    "kids_pets": "Toys and Pets",
    "misc_net": "Web Services",
    "misc_pos": "Supplies",
    "personal_care": "Salon",
    "shopping_net": "Online Store",
    "shopping_pos": "Outfitters",
    "travel": "Travels",
}
