"""What TechStore sells: brand, model, variants and the price of the first variant.

Prices are thousands of ARS at the anchor date; each further variant costs 14 % more.
"""

from __future__ import annotations

# category: (SKU prefix, share of the shop's items, goods)
GOODS: dict[str, tuple[str, float, str]] = {
    "Celulares": (
        "CEL",
        0.19,
        """Samsung|Galaxy A06|64 GB,128 GB|239
        Samsung|Galaxy A16|128 GB,256 GB|359
        Samsung|Galaxy A26 5G|128 GB,256 GB|529
        Samsung|Galaxy A56 5G|128 GB,256 GB|799
        Samsung|Galaxy S25|128 GB,256 GB|1549
        Samsung|Galaxy S25 Ultra|256 GB,512 GB|2449
        Motorola|Moto E15|64 GB|219
        Motorola|Moto G05|128 GB,256 GB|279
        Motorola|Moto G35 5G|128 GB,256 GB|389
        Motorola|Moto G85 5G|256 GB|579
        Motorola|Edge 60|256 GB|849
        Xiaomi|Redmi 14C|128 GB,256 GB|289
        Xiaomi|Redmi Note 14|128 GB,256 GB|449
        Xiaomi|Poco X7 Pro|256 GB,512 GB|749
        Apple|iPhone 15|128 GB,256 GB|1399
        Apple|iPhone 16|128 GB,256 GB|1749
        Apple|iPhone 16 Pro|256 GB|2399
        TCL|50 SE|128 GB|259""",
    ),
    "Notebooks": (
        "NBK",
        0.09,
        """Lenovo|IdeaPad 1 15|8 GB / 256 GB,8 GB / 512 GB|689
        Lenovo|IdeaPad Slim 3|16 GB / 512 GB,16 GB / 1 TB|949
        Lenovo|ThinkPad E14|16 GB / 512 GB,32 GB / 1 TB|1649
        HP|15-fd0000|8 GB / 256 GB,8 GB / 512 GB|719
        HP|Pavilion 14|16 GB / 512 GB|1099
        HP|Victus 15|16 GB / 512 GB,32 GB / 1 TB|1599
        Asus|Vivobook Go 15|8 GB / 512 GB,16 GB / 512 GB|799
        Asus|TUF Gaming A15|16 GB / 512 GB,16 GB / 1 TB|1749
        Dell|Inspiron 3520|8 GB / 512 GB,16 GB / 512 GB|889
        Dell|Latitude 3450|16 GB / 512 GB|1489
        Acer|Aspire 5|8 GB / 512 GB,16 GB / 512 GB|849
        Acer|Nitro V15|16 GB / 512 GB|1549
        Apple|MacBook Air 13 M4|16 GB / 256 GB,16 GB / 512 GB|2199
        Banghó|Max L5|8 GB / 240 GB,16 GB / 480 GB|629
        Exo|Smart T33|8 GB / 256 GB|549""",
    ),
    "Televisores": (
        "TEL",
        0.08,
        """Samsung|Crystal UHD DU7000|43",50",55",65"|549
        Samsung|QLED Q60D|50",55",65"|899
        LG|UHD UT7300|43",50",55"|569
        LG|OLED B4|55",65"|1999
        TCL|Google TV L5K|32",40"|299
        TCL|QLED C655|50",55",65"|749
        Noblex|DK32X5000|32"|259
        Noblex|DB50X7500|50"|489
        Philco|PLD43FS|43"|379
        BGH|B5024UK6|50"|479
        Hisense|A6N|43",50",58"|469
        Hitachi|CDH-LE504K|50"|459
        Xiaomi|TV Box S|3.ª generación|99
        Google|Chromecast con Google TV|4K|119""",
    ),
    "Audio": (
        "AUD",
        0.15,
        """JBL|Go 4|negro,azul,rojo|69
        JBL|Flip 6|negro,camuflado|179
        JBL|Charge 5|negro,azul|259
        JBL|Tune 520BT|negro,blanco|89
        JBL|Wave Beam 2|negro|99
        Sony|WH-CH520|negro,blanco|99
        Sony|WH-1000XM5|negro|549
        Sony|WF-C510|negro|119
        Sony|SRS-XB100|negro|89
        Samsung|Galaxy Buds FE|grafito|149
        Apple|AirPods 4|estándar,cancelación de ruido|329
        Philips|TAT1108|negro|39
        Noga|NG-BT450|negro,rosa|24
        Edifier|R1280DB|madera|219
        Edifier|W820NB Plus|negro|109
        LG|Soundbar S40T|2.1|289
        Xiaomi|Redmi Buds 6 Play|negro,blanco|34
        Panacom|SP-3430|10"|129""",
    ),
    "Gaming": (
        "GAM",
        0.11,
        """Sony|PlayStation 5 Slim|digital,con lectora|1149
        Sony|DualSense|blanco,negro|129
        Sony|PlayStation Portal|blanco|399
        Microsoft|Xbox Series S|512 GB,1 TB|749
        Microsoft|Control Xbox|negro,blanco|119
        Nintendo|Switch OLED|blanca,neón|649
        Nintendo|Switch 2|estándar|1149
        Logitech|G203 Lightsync|negro,blanco|39
        Logitech|G502 Hero|negro|79
        Logitech|G29 Volante|PS y PC|459
        Redragon|Kumara K552|negro,blanco|59
        Redragon|Cobra M711|negro|29
        Redragon|Zeus X H510|negro|89
        HyperX|Cloud Stinger 2|negro|79
        HyperX|QuadCast S|RGB|199
        Razer|DeathAdder Essential|negro|49
        Thrustmaster|T80|PS5|249
        Primus|Silla Thronos 100T|negra,roja|329
        Asus|ROG Ally|512 GB|1199""",
    ),
    "Componentes": (
        "CMP",
        0.12,
        """AMD|Ryzen 5 5600|caja|199
        AMD|Ryzen 5 8600G|caja|319
        AMD|Ryzen 7 7800X3D|caja|629
        Intel|Core i3-14100|caja|189
        Intel|Core i5-14400F|caja|279
        Intel|Core i7-14700K|caja|599
        Asus|GeForce RTX 4060 Dual|8 GB|599
        MSI|GeForce RTX 5070 Ventus|12 GB|1149
        Gigabyte|Radeon RX 7600|8 GB|529
        Kingston|Fury Beast DDR4|8 GB,16 GB,32 GB|39
        Kingston|Fury Beast DDR5|16 GB,32 GB|89
        Kingston|NV3 NVMe|500 GB,1 TB,2 TB|69
        Western Digital|Green SATA SSD|240 GB,480 GB|39
        Western Digital|Blue|1 TB,2 TB|79
        Seagate|SkyHawk|2 TB,4 TB|119
        Gigabyte|B550M DS3H|AM4|149
        Asus|Prime B650M-A|AM5|229
        Corsair|CX650|650 W,750 W|129
        Cooler Master|Hyper 212|negro|59
        Sentey|Gabinete K10|negro|69""",
    ),
    "Accesorios": (
        "ACC",
        0.19,
        """Logitech|M170|negro,gris|14.9
        Logitech|MK235|negro|34.9
        Logitech|C920s|1080p|109
        Logitech|MX Master 3S|grafito|159
        Genius|KB-110X|negro|11.9
        Noga|Cable USB-C 1 m|negro,blanco|5.9
        Noga|Soporte celular auto|negro|8.9
        Samsung|Cargador 25 W|USB-C|32.9
        Samsung|Cargador 45 W|USB-C|54.9
        Apple|Cargador 20 W|USB-C|45.9
        Xiaomi|Power Bank 10000 mAh|negro,plata|39.9
        Xiaomi|Power Bank 20000 mAh|negro|59.9
        SanDisk|Ultra microSD|64 GB,128 GB,256 GB|12.9
        SanDisk|Cruzer Blade|32 GB,64 GB,128 GB|8.9
        Kingston|DataTraveler Exodia|64 GB,128 GB|9.9
        TP-Link|Archer C6|AC1200|59.9
        TP-Link|Archer AX12|AX1500|89.9
        TP-Link|UE300|Gigabit|24.9
        Epson|EcoTank L3250|multifunción|449
        Spigen|Funda Liquid Air|Galaxy S25,iPhone 16|24.9
        Targus|Mochila Campus 15.6|negra|79.9""",
    ),
    "Hogar Inteligente": (
        "HOG",
        0.07,
        """Xiaomi|Mi Band 9|negra,celeste|64
        Xiaomi|Robot Vacuum S10|blanco|349
        Xiaomi|Mi Smart Air Fryer|4 L,6 L|189
        Amazon|Echo Dot 5|negro,blanco|119
        Amazon|Echo Show 5|negro|189
        Google|Nest Mini|tiza|89
        TP-Link|Tapo C200|1080p|49
        TP-Link|Tapo C500|exterior|79
        TP-Link|Tapo L530E|color|19
        TP-Link|Tapo P110|enchufe|24
        Samsung|Galaxy Watch7|40 mm,44 mm|459
        Samsung|Galaxy Fit3|grafito,plata|89
        Amazfit|Bip 6|negro,rosa|149
        Amazfit|GTR 4|negro|329
        Ezviz|Timbre DB2C|blanco|139
        Ezviz|H6c Pro|2K|64
        Motorola|Moto Tag|azul|39
        Apple|AirTag|1 unidad,4 unidades|59
        Apple|Watch SE|40 mm,44 mm|449
        Smart Life|Sensor de movimiento Ñandú|Wi-Fi|22
        BGH|Termostato Smart Control|Wi-Fi|95""",
    ),
}
